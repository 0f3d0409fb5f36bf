// Package sealed encrypts what users say before a store, or Redis, keeps it, and opens
// it again.
//
// A [Store] stands around another one. Sealed are payloads, results, checkpoints,
// messages and details of failures, messages of progress, the data of all events,
// what tasks remember, signals, and the payloads of schedules. What a store looks
// things up by stays as it is: ids, namespaces, kinds, queues, labels, states, times,
// sizes, codes of failures, fractions of progress, names of steps and signals, and the
// keys that callers give.
//
// Sealing is AES-256-GCM. Each owner (a task, a schedule, a result in Redis) has two
// keys of its own, made by HKDF-SHA-256 of the named secret, the namespace and the
// owner's name: one encrypts, the other makes the nonce, as an HMAC of where the text
// stands and of the text. Where it stands (the field, of an event the cursor and the
// type) is authenticated too. So a sealed text opens in its own place and in no other,
// be it another field, row or tenant.
//
// That a nonce is made of the text and not of chance is what a [task.Store] asks for:
// the very same insert, or signal, has to be the very same bytes again. Its price is
// that two equal texts sealed for one and the same place look equal, as when a
// checkpoint is saved again unchanged. In different places equal texts look different.
//
// What a store gets is "trp1:ID:…", the name of the secret and nonce, text and tag in
// base64, as a JSON string where JSON is asked for; it is a third larger than the text.
// What has an unknown secret, or was changed, is an error that names the secret. What
// was there before encryption is read as it is unless [Options.Strict] says otherwise.
// An absent value stays absent: that a row or a field was taken out is not found.
//
// Of several [Keys] the first seals, and all open: a secret is changed by putting a new
// one in front. Rows are not written anew, as no [task.Store] rewrites a payload; they
// go with retention, and schedules are sealed anew as they fire.
//
// A node runs only what it can open: tasks that it claims and cannot open go back, and it
// says so in its log. So one without the right keys does no harm, nor does one row that
// is damaged. Who asks for such a task, or a page it is on, gets the error.
package sealed
