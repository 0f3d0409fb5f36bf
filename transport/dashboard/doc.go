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
// # The modules
//
//	app.js      route, keyboard, the one socket; joins the rest
//	socket.js   the connection: reconnect, resume by cursor, each event once
//	tasks.js    what is known of tasks, kept by snapshots and events
//	list.js     the table          detail.js   one task
//	story.js    all a task says    lines.js    a bounded log
//	submit.js   the form
//	api.js      calls over HTTP    json.js     JSON with its numbers as written
//	dom.js      elements, frames   format.js   times, sizes, states in words
package dashboard
