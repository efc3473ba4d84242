// Exports the spans of the calls that this service answers, as OpenTelemetry's standard environment variables say.

import { diag, DiagLogLevel } from "@opentelemetry/api";
import type { SpanExporter } from "@opentelemetry/sdk-trace-node";

/** What is running if spans are exported. */
export interface Telemetry {
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
  if (!enabled()) return { stop: async () => {} };
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
