export { Attempt, Cancelled, Failure, Suspended, type StopReason } from "./attempt.js";
export { Client, type ClientOptions, type SubmitOptions } from "./client.js";
export type { GapEvent, State, StateData, TaskEvent } from "./events.js";
export type * as Api from "./openapi.js";
export type { BatchAccepted, BatchStatus, Submission, Task } from "./openapi.js";
export { Problem, Unreachable } from "./problem.js";
export type { WebSocketLike, WebSocketMaker } from "./socket.js";
export type { Filter, Topic, Watched } from "./watch.js";
export { Worker, type Handler, type WorkerOptions } from "./worker.js";
