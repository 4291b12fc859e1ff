// RATE for SOAK (4h): what grows shows in the gateway's own metrics meanwhile.
import type { Options } from "k6/options";
import { arrivals, ask, rate, thresholds } from "./shared.ts";

export const options: Options = {
  scenarios: arrivals([[rate, __ENV.SOAK ?? "4h"]]),
  thresholds: thresholds(1),
};

export default ask;
