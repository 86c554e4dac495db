// Reads an interval log with hdr-histogram-js: `node hlog.mjs FILE` prints as JSON, for each tag,
// its intervals (start and end in ms since 1970) and, of all of them together, the number of
// values, their maximum and their percentiles.
import { readFileSync } from "node:fs";
import hdr from "hdr-histogram-js";

const PERCENTILES = [0, 50, 75, 90, 99, 99.9, 99.99, 100];
const RANGE = { highestTrackableValue: 3.6e9 };

const reader = new hdr.HistogramLogReader(readFileSync(process.argv[2], "utf8"));
const tags = {};
for (let read = reader.nextIntervalHistogram(); read; read = reader.nextIntervalHistogram()) {
  const tag = (tags[read.tag] ??= { intervals: [], sum: hdr.build(RANGE) });
  tag.intervals.push([read.startTimeStampMsec, read.endTimeStampMsec]);
  tag.sum.add(read);
}
const told = {};
for (const [name, { intervals, sum }] of Object.entries(tags)) {
  told[name] = {
    intervals,
    count: sum.totalCount,
    max_us: sum.maxValue,
    percentiles_us: PERCENTILES.map((percent) => sum.getValueAtPercentile(percent)),
  };
}
console.log(JSON.stringify(told));
