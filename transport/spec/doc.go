// Package spec has what the two descriptions of the API share, that of HTTP
// (OpenAPI, made by package api) and that of the sockets (AsyncAPI, made by
// package ws): the schemas of the core's types, and the things that the examples
// in both are about.
package spec
