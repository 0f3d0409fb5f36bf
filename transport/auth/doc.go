// Package auth is the door: it says whom a credential stands for, or refuses it.
//
// A credential is an API key of ours, or a token (JWT) of an issuer that was named
// in the configuration, both shown as "Authorization: Bearer …"; or, where a
// request is marked with [AllowTicket], a ticket that one of these was changed for.
// The namespace comes from the credential and from nothing else.
//
// What is promised, and how:
//
//   - A key is kept nowhere but with its owner. The store has an HMAC of it under a
//     secret of the server; logs, errors and metrics have nothing of it.
//   - As long as the store answers, a key that was revoked opens nothing two seconds
//     later, on every node, and an open stream that was let in by it is closed within
//     five: see [Door.Watch].
//   - Whoever is refused learns nothing: unknown, expired, revoked and mistyped
//     credentials get the same answer.
//   - While the store cannot be read, a key that was good within the last 30
//     seconds still is. No other is refused as wrong either: it is 503, not 401.
//   - A token is verified with an algorithm that its issuer was allowed and that the
//     key is made for. What the token says of its algorithm only selects among these,
//     so neither "none" nor an RSA key taken for a shared secret can happen.
//   - Who guesses is slowed: ten refusals in a minute from one address, and further
//     credentials that are not known to be good wait longer and longer.
//   - Everything that is remembered is bounded.
package auth
