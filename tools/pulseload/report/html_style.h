// The report page's style sheet.
#pragma once

#include <string_view>

namespace pulse::load {

inline constexpr std::string_view kPageStyle = R"css(
:root { color-scheme: light dark;
  --page: #fcfcfb; --card: #ffffff; --ink: #1c2126; --soft: #59636e; --rule: #e2e5e8;
  --good: #1a7f4b; --good-wash: #e9f6ee; --bad: #b3261e; --bad-wash: #fcebe9;
  --ramp: #eef2f7; --drain: #f3f1ee; --mark: #8a5a00;
  --s0: #0b8278; --s1: #2563c9; --s2: #6d3fc7; --s3: #b85c00; --s4: #b8275a; --s5: #66717c; }
@media (prefers-color-scheme: dark) { :root {
  --page: #101418; --card: #161b20; --ink: #e4e8eb; --soft: #9ba6b0; --rule: #2a3138;
  --good: #5fce91; --good-wash: #12291d; --bad: #ff8f85; --bad-wash: #361a18;
  --ramp: #1b232c; --drain: #231f1b; --mark: #e0b458;
  --s0: #3fc5b7; --s1: #6ea6ff; --s2: #b394f7; --s3: #f0984f; --s4: #f57fa3; --s5: #93a0ac; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 4px 0 0; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 48px 0 12px; }
h3 { font-size: 16px; margin: 0; }
p { margin: 0; }
.soft, figcaption p { color: var(--soft); font-size: 14px; }
.verdict { margin: 20px 0 24px; padding: 14px 18px; border-left: 4px solid var(--good);
  background: var(--good-wash); border-radius: 4px; }
.verdict strong { color: var(--good); font-size: 18px; }
.verdict.bad { border-color: var(--bad); background: var(--bad-wash); }
.verdict.bad strong { color: var(--bad); }
.verdict ul { margin: 8px 0 0; padding-left: 20px; }
dl.happened { display: grid; grid-template-columns: max-content 1fr; gap: 6px 20px; margin: 0;
  max-width: 880px; }
dl.happened dt { font-weight: 600; }
dl.happened dt.good { color: var(--good); } dl.happened dt.bad { color: var(--bad); }
dl.happened dd { margin: 0; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px;
  margin: 28px 0 0; padding: 0; list-style: none; }
.tiles li { background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  padding: 12px 16px 14px; display: flex; flex-direction: column; }
.tiles span { color: var(--soft); font-size: 13px; }
.tiles b { font-size: 24px; line-height: 1.3; font-weight: 600; letter-spacing: -0.01em; }
.tiles .good b { color: var(--good); } .tiles .bad b { color: var(--bad); }
.plots { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; }
.plots figure:last-child:nth-child(odd) { grid-column: 1 / -1; }
figure { margin: 0; background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  padding: 16px 20px 14px 16px; min-width: 0; display: flex; flex-direction: column; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; list-style: none; margin: 8px 0 0;
  padding: 0; font-size: 13px; color: var(--soft); }
.legend li { white-space: nowrap; }
.legend svg.key { display: inline-block; width: 30px; height: 4px; margin-right: 6px;
  vertical-align: middle; }
.frame { position: relative; margin: auto 0 0; padding: 44px 0 42px 66px; }
.yname, .xname { position: absolute; font-size: 12px; line-height: 16px; color: var(--soft);
  white-space: nowrap; }
.yname { top: 2px; left: 8px; } .xname { bottom: 2px; right: 0; }
.area { position: relative; height: 210px; }
svg { display: block; width: 100%; height: 100%; overflow: visible; }
.s0 { color: var(--s0); } .s1 { color: var(--s1); } .s2 { color: var(--s2); }
.s3 { color: var(--s3); } .s4 { color: var(--s4); } .s5 { color: var(--s5); }
.grid, .mark, .line { fill: none; vector-effect: non-scaling-stroke; }
.grid { stroke: var(--rule); stroke-width: 1px; }
.mark { stroke: var(--mark); stroke-width: 1.5px; stroke-dasharray: 3 3; }
.line { stroke: currentColor; stroke-width: 1.75px; stroke-linejoin: round;
  stroke-linecap: round; }
.line.d1, .line.d2, .line.d3, .line.d4 { stroke-linecap: butt; }
.line.d1 { stroke-dasharray: 9 3; } .line.d2 { stroke-dasharray: 4 3; }
.line.d3 { stroke-dasharray: 9 3 2 3; } .line.d4 { stroke-dasharray: 1.5 2.5; }
.dot { fill: none; stroke: currentColor; stroke-width: 6px; stroke-linecap: round;
  vector-effect: non-scaling-stroke; }
.fill { fill: currentColor; opacity: 0.13; }
.bar { fill: currentColor; }
rect.band { fill: none; } rect.ramp { fill: var(--ramp); } rect.drain { fill: var(--drain); }
.ys { position: absolute; top: 44px; bottom: 42px; left: 0; width: 58px; }
.ys span { position: absolute; right: 0; transform: translateY(-50%); }
.xs { position: absolute; bottom: 18px; left: 66px; right: 0; height: 20px; }
.xs span { position: absolute; transform: translateX(-50%); }
.xs .end { transform: translateX(-75%); }
.ys span, .xs span { font-size: 12px; color: var(--soft); white-space: nowrap; }
span.band, span.flag { position: absolute; top: -19px; font-size: 12px; line-height: 16px;
  color: var(--soft); white-space: nowrap; overflow: hidden; }
span.flag { top: 0; color: var(--mark); background: var(--card); padding: 0 4px;
  transform: translateX(-50%); }
.tip { position: absolute; top: 0; bottom: 0; }
.tip:hover { background: linear-gradient(var(--soft), var(--soft)) center / 1px 100% no-repeat; }
.tip:hover::after { content: attr(data-tip); position: absolute; left: calc(50% + 8px); top: 8px;
  z-index: 2; white-space: pre; font: 13px/1.45 system-ui, sans-serif; padding: 6px 10px;
  color: var(--ink); background: var(--card); border: 1px solid var(--rule); border-radius: 6px;
  box-shadow: 0 4px 16px rgb(0 0 0 / 0.18); pointer-events: none; }
.tip.left:hover::after { left: auto; right: calc(50% + 8px); }
.table { overflow-x: auto; margin: 0 0 8px; }
table { border-collapse: collapse; font-size: 14px; min-width: min(100%, 560px); }
th, td { text-align: right; padding: 6px 12px; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 500; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td.wide, th.wide { text-align: left; white-space: normal; overflow-wrap: anywhere; }
td.good { color: var(--good); } td.bad { color: var(--bad); font-weight: 600; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0 40px; }
pre { margin: 0 0 16px; padding: 12px 16px; background: var(--card); border-radius: 8px;
  border: 1px solid var(--rule); white-space: pre-wrap; overflow-wrap: anywhere;
  font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
footer { margin-top: 48px; color: var(--soft); font-size: 13px; }
@media (max-width: 860px) { .plots, .pair { grid-template-columns: 1fr; }
  .tiles { grid-template-columns: 1fr 1fr; } }
@media (max-width: 520px) { main { padding: 20px 16px 40px; } h1 { font-size: 24px; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 8px; } .tiles b { font-size: 20px; }
  .tiles li { padding: 10px 12px; }
  dl.happened { grid-template-columns: 1fr; gap: 0; } dl.happened dd { margin-bottom: 10px; }
  figure { padding: 14px 14px 12px 10px; } .frame { padding-left: 58px; } .xs { left: 58px; }
  .ys { width: 52px; } .xs .odd, .narrow { display: none; } .area { height: 180px; } }
@media print { body { background: none; } figure, .table { break-inside: avoid; } }
)css";

}  // namespace pulse::load
