// More and more until answers are wrong or ten times as late as they should be: the rate at the end is the capacity.
import type { Options } from "k6/options";
import { arrivals, ask, rate, thresholds } from "./shared.ts";

export const options: Options = {
  scenarios: arrivals([[rate * 100, "20m"]]),
  thresholds: thresholds(10, true),
};

export default ask;
