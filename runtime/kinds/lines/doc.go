// Package lines gives on what a command writes, line by line, while it writes it.
//
// Standard output becomes output of the task, standard error log lines with the
// field stream=stderr. Each line comes with its newline as soon as it is there, an
// unfinished one after a moment, for it may be a prompt, and a very long one in
// pieces between two characters. All pieces of a stream in a row are the stream;
// between the two there is no order.
package lines
