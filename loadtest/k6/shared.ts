// What all scripts share: the scenarios and expectations of loadtest/scenarios.json, which `make compare` runs as well.
import { check } from "k6";
import http from "k6/http";
import type { Options, Threshold } from "k6/options";

interface Shared {
  scenarios: Record<string, Scenario>;
  expectations: { failed: number; p50_ms: number; p99_ms: number };
}

interface Scenario {
  title: string;
  path: string;
  method?: string;
  headers?: Record<string, string>;
  upload?: number;
  status: number;
  answer?: number;
}

const shared = JSON.parse(open("../scenarios.json")) as Shared;

// Where the gateway is, and a token for scenarios that want one.
const base = __ENV.BASE_URL ?? "http://127.0.0.1:8080";
const token = __ENV.TOKEN ?? "";

/** The scenarios that are asked for (SCENARIOS, by comma; `plain` without). */
export function chosen(): [string, Scenario][] {
  return (__ENV.SCENARIOS ?? "plain").split(",").map((name) => {
    const scenario = shared.scenarios[name];
    if (scenario === undefined) {
      throw new Error(`no scenario ${name}; there are ${Object.keys(shared.scenarios).join(", ")}`);
    }
    return [name, scenario];
  });
}

/** Requests a second at rest (RATE; 500 without). */
export const rate = Number(__ENV.RATE ?? 500);

/** Thresholds: `factor` times the expected latency. A refusal that was asked for is no failure, so checks count. */
export function thresholds(factor: number, abort = false): Record<string, Threshold[]> {
  const { failed, p50_ms, p99_ms } = shared.expectations;
  const stop = (threshold: string): Threshold =>
    abort ? { threshold, abortOnFail: true, delayAbortEval: "10s" } : threshold;
  return {
    checks: [stop(`rate>=${1 - failed}`)],
    http_req_duration: [stop(`p(50)<${p50_ms * factor}`), stop(`p(99)<${p99_ms * factor}`)],
    // Where the capacity is looked for, requests that k6 could not send in time are no finding.
    ...(abort ? {} : { dropped_iterations: ["count<1"] }),
  };
}

/** An open-loop arrival rate: a slow answer does not delay the next request. */
export function arrivals(stages: [number, string][], start = rate): Options["scenarios"] {
  return {
    arrivals: {
      executor: "ramping-arrival-rate",
      startRate: start,
      timeUnit: "1s",
      preAllocatedVUs: 200,
      maxVUs: 5000,
      stages: stages.map(([target, duration]) => ({ target, duration })),
    },
  };
}

/** One request of each chosen scenario in turn, and whether its answer is what it should be. */
export function ask(): void {
  for (const [name, scenario] of chosen()) {
    const headers: Record<string, string> = {};
    for (const [field, value] of Object.entries(scenario.headers ?? {})) {
      headers[field] = value.replace("{token}", token);
    }
    const body = scenario.upload === undefined ? null : "x".repeat(scenario.upload);
    const answer = http.request(scenario.method ?? "GET", base + scenario.path, body, {
      headers,
      tags: { scenario: name },
      responseCallback: http.expectedStatuses(scenario.status),
    });
    check(answer, {
      "status": (got) => got.status === scenario.status,
      "length": (got) =>
        scenario.answer === undefined || (typeof got.body === "string" && got.body.length === scenario.answer),
    });
  }
}
