// Package httpcall is the kind "http": it makes one request and streams the
// answer.
//
// Payload; only url is needed:
//
//	{
//	  "method":    "POST",                   default: GET, or POST with a body
//	  "url":       "https://example.com/a",  http or https, without user and password
//	  "headers":   {"Authorization": "…"},
//	  "body":      {"any": "JSON"},          or
//	  "body_text": "any text",
//	  "timeout":   "30s",                    for all of it; the default, at most Config.MaxTimeout
//	  "expect":    [200, 404]                the statuses that are a success; default: all below 400
//	}
//
// The first `output` event is {"chunk": {"status": 200, "headers": {…}}}. The
// body follows in pieces as they come: {"text"}, or {"base64"} for what is not
// UTF-8. The result:
//
//	{
//	  "status":    200,
//	  "headers":   {"Content-Type": "text/plain"},
//	  "body":      "…",
//	  "encoding":  "text",    or "json": body is the JSON itself; or "base64"
//	  "bytes":     1234,      of the body, as far as it was read
//	  "truncated": false      true: body has only its beginning
//	}
//
// Headers that occur more than once are joined by ", ". Set-Cookie is left out:
// it is a credential, and a task's log is kept.
//
// Failures:
//
//	http_status      an unexpected status; details {"status": 503, "retry_after": "30s"};
//	                 408, 425, 429 and those from 500 on may be retried
//	http_error       no answer, or half of one; may be retried
//	http_redirect    more than 10 redirects, or one to something that is not a plain http URL
//	address_refused  the name leads to an address that tasks may not reach
//	invalid_payload  the payload is wrong
//
// # Whom a task may call
//
// Whoever may submit tasks would otherwise reach whatever the node reaches: its
// own loopback, the private network, the cloud's metadata with its keys. So an
// address is checked when it is dialled, after every name has been resolved and
// for each redirect anew; no spelling of a URL and no change of a DNS answer
// gets around that. address.go has the rules, and [Allowed] the exceptions, of
// which none opens the places where clouds keep credentials. Proxies of the
// environment are not used, for they would dial for us.
//
// A redirect to another origin loses all headers of the task but those that say
// what kinds of content it takes and sends. Neither header values nor the query
// of a URL are in any message, and neither is an address a name was resolved to.
package httpcall
