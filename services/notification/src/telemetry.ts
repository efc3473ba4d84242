// Spans of the calls that this service answers, exported as OpenTelemetry's standard environment variables say.

import {
  ResponderBuilder, ServerInterceptingCall, ServerListenerBuilder, status, type Metadata, type ServerInterceptor,
} from "@grpc/grpc-js";
import {
  context, diag, DiagLogLevel, propagation, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace,
  type Context, type Span, type TextMapGetter,
} from "@opentelemetry/api";
import type { SpanExporter } from "@opentelemetry/sdk-trace-node";

const scope = "acme-notification";

/** The codes that are the server's fault, by OpenTelemetry's conventions. */
const faults = new Set<number>([
  status.UNKNOWN, status.DEADLINE_EXCEEDED, status.UNIMPLEMENTED, status.INTERNAL, status.UNAVAILABLE,
  status.DATA_LOSS,
]);

/** What is running if spans are exported. */
export interface Telemetry {
  readonly interceptors: ServerInterceptor[];
  /** Exports what is left, and stops. It never throws. */
  stop(): Promise<void>;
}

/** Returns whether the environment asks for spans. The services in Go ask the same. */
function enabled(): boolean {
  const { env } = process;
  if (env["OTEL_SDK_DISABLED"]?.toLowerCase() === "true" || env["OTEL_TRACES_EXPORTER"] === "none") return false;
  return ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER"].some(
    (name) => (env[name] ?? "") !== "",
  );
}

async function newExporter(): Promise<SpanExporter> {
  const name = process.env["OTEL_TRACES_EXPORTER"] || "otlp";
  if (name === "console") return new (await import("@opentelemetry/sdk-trace-node")).ConsoleSpanExporter();
  if (name !== "otlp") throw new Error(`OTEL_TRACES_EXPORTER=${name}: want otlp, console or none`);
  const protocol = process.env["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] || process.env["OTEL_EXPORTER_OTLP_PROTOCOL"] ||
    "http/protobuf";
  switch (protocol) {
    case "grpc":
      return new (await import("@opentelemetry/exporter-trace-otlp-grpc")).OTLPTraceExporter();
    case "http/protobuf":
      return new (await import("@opentelemetry/exporter-trace-otlp-proto")).OTLPTraceExporter();
    default:
      throw new Error(`OTEL_EXPORTER_OTLP_PROTOCOL=${protocol}: want grpc or http/protobuf`);
  }
}

/**
 * Starts to export spans, if the environment asks for them. OTEL_SERVICE_NAME overrides the service's name. Throws if a
 * variable has an unknown value.
 */
export async function startTelemetry(
  service: string, log: (message: string, fields: Record<string, unknown>) => void,
): Promise<Telemetry> {
  if (!enabled()) return { interceptors: [], stop: async () => {} };
  logFailures(log);
  const { BatchSpanProcessor, NodeTracerProvider } = await import("@opentelemetry/sdk-trace-node");
  const { detectResources, envDetector, resourceFromAttributes } = await import("@opentelemetry/resources");
  // People look at a trace while its saga is still running.
  const soon = process.env["OTEL_BSP_SCHEDULE_DELAY"] ? {} : { scheduledDelayMillis: 1000 };
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({ "service.name": service })
      .merge(detectResources({ detectors: [envDetector] })),
    spanProcessors: [new BatchSpanProcessor(await newExporter(), soon)],
  });
  provider.register();
  return {
    interceptors: [traced],
    stop: () => provider.shutdown().catch((error: unknown) => log("telemetry", { error: String(error) })),
  };
}

/** Logs each distinct failure of an export once. */
function logFailures(log: (message: string, fields: Record<string, unknown>) => void): void {
  const seen = new Set<string>();
  const once = (message: string) => {
    if (seen.has(message) || seen.size >= 100) return;
    seen.add(message);
    log("telemetry", { error: message });
  };
  const ignore = () => {};
  diag.setLogger(
    { error: once, warn: ignore, info: ignore, debug: ignore, verbose: ignore }, { logLevel: DiagLogLevel.ERROR },
  );
}

const carrier: TextMapGetter<Metadata> = {
  get: (metadata, key) => metadata.get(key).map(String),
  keys: (metadata) => Object.keys(metadata.getMap()),
};

/** Makes a span of each call, below the caller's. Health checks and reflection have none. */
const traced: ServerInterceptor = (method, call) => {
  if (method.path.startsWith("/grpc.")) return new ServerInterceptingCall(call);
  let active: Context = ROOT_CONTEXT;
  let span: Span | undefined;
  const end = (code: number) => {
    span?.setAttribute("rpc.response.status_code", status[code] ?? String(code));
    if (faults.has(code)) span?.setStatus({ code: SpanStatusCode.ERROR });
    span?.end(now());
    span = undefined;
  };
  const listener = new ServerListenerBuilder()
    .withOnReceiveMetadata((metadata, next) => {
      const parent = propagation.extract(ROOT_CONTEXT, metadata, carrier);
      const name = method.path.replace(/^\//, "");
      span = trace.getTracer(scope).startSpan(name, {
        kind: SpanKind.SERVER, startTime: now(), attributes: { "rpc.system.name": "grpc", "rpc.method": name },
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

/** Notes in the span of the call that is handled what the inbox did. */
export function noteVerdict(verdict: string): void {
  trace.getActiveSpan()?.setAttribute("treaty.inbox.verdict", verdict);
}

let origin = performance.timeOrigin;

/**
 * Returns the time in milliseconds since 1970, with fractions. Date.now cuts them off, so a span would start before
 * the span of its caller. What performance.now adds to is wrong once the clock was set, so Date.now corrects it.
 */
function now(): number {
  const passed = performance.now();
  const wall = Date.now();
  origin = Math.min(Math.max(origin, wall - passed), wall + 1 - passed);
  return origin + passed;
}
