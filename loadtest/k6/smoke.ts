// Does it work at all: one client, half a minute. k6 run smoke.ts
import type { Options } from "k6/options";
import { ask, thresholds } from "./shared.ts";

export const options: Options = { vus: 1, duration: "30s", thresholds: thresholds(1) };

export default ask;
