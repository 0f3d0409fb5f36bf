// Package dashboard is the page at /: tasks as they move, one task with all it
// says, and a form to submit one.
//
// It is hand-written HTML, CSS and ES modules, embedded as they are: no build
// step, no framework, nothing from elsewhere. The page talks to the server that
// served it, over the API and one WebSocket, as any other client does; this
// package knows neither.
//
// # Promises
//
// The page runs under a policy without unsafe-inline and with trusted types:
// text from a task only ever becomes text nodes, never markup, style or code.
//
// Whatever a task says, the page stays of bounded size: the rows of the list,
// the lines of a log and the characters of a line all have a most.
//
// A server may ask for a key. It is kept in the browser's storage, for the tab or,
// where a person asked for it, for the machine; it is sent in a header alone and
// never becomes part of an address, of the document or of what is logged. Nothing of
// one namespace stays on the page of another. What a key does not allow is not
// offered, but it is the server that refuses it.
//
// # The modules
//
//	app.js      route, keyboard, the one socket; joins the rest
//	session.js  who is here: the key, what it allows, asking for another
//	login.js    the question for a key
//	socket.js   the connection: reconnect, resume by cursor, each event once
//	tasks.js    what is known of tasks, kept by snapshots and events
//	list.js     the table          detail.js   one task
//	story.js    all a task says    lines.js    a bounded log
//	submit.js   the form
//	api.js      the calls          http.js     how a call is made
//	dom.js      elements, frames   json.js     JSON with its numbers as written
//	format.js   times, sizes, states in words
package dashboard
