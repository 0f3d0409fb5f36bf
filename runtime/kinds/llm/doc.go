// Package llm is the kind "llm": it asks a language model, and streams the text.
//
// Payload; provider, model and messages are needed:
//
//	{
//	  "provider":    "openai",               a name of Config.Providers
//	  "model":       "gpt-5-mini",
//	  "messages":    [{"role": "user", "content": "Why?"}],   user and assistant
//	  "system":      "You are brief.",
//	  "max_tokens":  1000,                   of the answer
//	  "temperature": 0.2,
//	  "stop":        ["END"],
//	  "json_schema": {"type": "object", …},  what the answer has to be
//	  "timeout":     "10m"                   for all of it; the default, at most Config.MaxTimeout
//	}
//
// The text comes as `output` events {"text"}, as the provider sends it. The result:
//
//	{
//	  "text":        "Because.",
//	  "json":        {…},                    with json_schema, if the text is JSON
//	  "usage":       {"input_tokens": 12, "output_tokens": 3},
//	  "model":       "gpt-5-mini-2026-08-07",
//	  "stop_reason": "stop"                  in the provider's words
//	}
//
// and "truncated": true when the text was longer than a result may be.
//
// Failures:
//
//	llm_error        the provider refused or broke off; details {"status", "type"}; 408, 409, 425,
//	                 those from 500 on and what broke off may be retried
//	llm_timeout      no complete answer in time; may be retried
//	llm_busy         the provider has put the task off Config.MaxWaits times
//	invalid_payload  the payload is wrong
//
// # Waiting for a provider
//
// A provider that has too much to do says so: by 429, 529 or 503 with a
// Retry-After. That is no failure. The attempt ends uncounted, the task holds
// nothing until the time has come, and then asks again, from the beginning. How
// often that was is the task's checkpoint.
//
// # Keys
//
// A key is in the request to its provider and nowhere else. The libraries are
// used without their clients, which would read the environment; proxies of the
// environment and redirects are not followed, since either would get the key;
// and what a provider says, which could be the key again, passes through redact
// before anybody sees it.
package llm
