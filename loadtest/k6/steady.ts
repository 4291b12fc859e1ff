// The load of every day: RATE requests a second for ten minutes.
import type { Options } from "k6/options";
import { arrivals, ask, rate, thresholds } from "./shared.ts";

export const options: Options = {
  scenarios: arrivals([[rate, "10m"]]),
  thresholds: thresholds(1),
};

export default ask;
