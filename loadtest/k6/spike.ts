// Ten times RATE within ten seconds, for a minute, and back: latencies may be four times as long, nothing may fail.
import type { Options } from "k6/options";
import { arrivals, ask, rate, thresholds } from "./shared.ts";

export const options: Options = {
  scenarios: arrivals([
    [rate, "1m"],
    [rate * 10, "10s"],
    [rate * 10, "1m"],
    [rate, "10s"],
    [rate, "1m"],
  ]),
  thresholds: thresholds(4),
};

export default ask;
