// Spans and metrics of the calls that a participant answers, made with OpenTelemetry's API. Without an SDK, which is up
// to the program, they cost next to nothing.

import {
  ResponderBuilder, ServerInterceptingCall, ServerListenerBuilder, status, type Metadata, type ServerInterceptor,
} from "@grpc/grpc-js";
import {
  context, metrics, propagation, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace,
  type Context, type Span, type TextMapGetter,
} from "@opentelemetry/api";
import { nowMillis } from "./clock.js";
import type { Direction } from "./command.js";
import type { Verdict } from "./inbox.js";

const library = "@treatyhq/participant";

/** The codes that are the server's fault, by OpenTelemetry's conventions. */
const faults: ReadonlySet<number> = new Set([
  status.UNKNOWN, status.DEADLINE_EXCEEDED, status.UNIMPLEMENTED, status.INTERNAL, status.UNAVAILABLE,
  status.DATA_LOSS,
]);

const carrier: TextMapGetter<Metadata> = {
  get: (metadata, key) => metadata.get(key).map(String),
  keys: (metadata) => Object.keys(metadata.getMap()),
};

/**
 * Makes a span of each call, below the caller's, so that the saga's trace continues here. Health checks and reflection
 * have none. The server of a Participant has this interceptor, unless the options say otherwise.
 */
export const tracing: ServerInterceptor = (method, call) => {
  if (method.path.startsWith("/grpc.")) return new ServerInterceptingCall(call);
  let active: Context = ROOT_CONTEXT;
  let span: Span | undefined;
  const end = (code: number) => {
    span?.setAttribute("rpc.response.status_code", status[code] ?? String(code));
    if (faults.has(code)) span?.setStatus({ code: SpanStatusCode.ERROR });
    span?.end(nowMillis());
    span = undefined;
  };
  const listener = new ServerListenerBuilder()
    .withOnReceiveMetadata((metadata, next) => {
      const parent = propagation.extract(ROOT_CONTEXT, metadata, carrier);
      const name = method.path.replace(/^\//, "");
      span = trace.getTracer(library).startSpan(name, {
        kind: SpanKind.SERVER, startTime: nowMillis(), attributes: { "rpc.system.name": "grpc", "rpc.method": name },
      }, parent);
      active = trace.setSpan(parent, span);
      next(metadata);
    })
    .withOnReceiveMessage((message, next) => context.with(active, () => next(message)))
    .withOnReceiveHalfClose((next) => context.with(active, next))
    .withOnCancel(() => end(status.CANCELLED))
    .build();
  return new ServerInterceptingCall(call, new ResponderBuilder()
    .withStart((next) => next(listener))
    .withSendStatus((sent, next) => {
      end(sent.code ?? status.UNKNOWN);
      next(sent);
    })
    .build());
};

/** Returns a function that notes what the inbox did, in the span of the call that is handled and in a metric. */
export function newVerdicts(): (verdict: Verdict, direction: Direction) => void {
  const counter = metrics.getMeter(library).createCounter("treaty.inbox.verdicts", {
    description: "Commands by the inbox's verdict.", unit: "{command}",
  });
  return (verdict, direction) => {
    trace.getActiveSpan()?.setAttribute("treaty.inbox.verdict", verdict);
    counter.add(1, { "treaty.inbox.verdict": verdict, "treaty.direction": direction });
  };
}
