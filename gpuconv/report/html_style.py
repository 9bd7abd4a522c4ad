"""How a report looks: the reader's own fonts, light or dark, on a wide screen, a narrow one or paper."""

from __future__ import annotations

from typing import Final

CSS: Final = """
:root {
  color-scheme: light dark;
  --ground: #fbfbfa; --card: #ffffff; --ink: #22262b; --faint: #5c636b; --line: #dfe2e5; --accent: #0067a3;
  --figure: #ffffff; --figure-ink: #22262b; --figure-line: #dfe2e5;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", Menlo, Consolas, monospace;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Arial, sans-serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #16181b; --card: #1e2125; --ink: #e4e6e9; --faint: #a2a9b1; --line: #33383e; --accent: #6bb7ea;
    --figure: #f4f4f2; --figure-line: #f4f4f2;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; padding: 2.5rem 1.25rem 4rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 var(--sans);
}
main, header, footer { max-width: 70rem; margin: 0 auto; }
h1, h2, h3, h4 { line-height: 1.25; text-wrap: balance; overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; font-weight: 650; letter-spacing: -0.015em; margin: 0 0 0.4rem; }
h2 { font-size: 1.45rem; font-weight: 650; letter-spacing: -0.01em; margin: 3.5rem 0 0.3rem;
  padding-top: 1.5rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.1rem; font-weight: 650; margin: 2.6rem 0 0.5rem; }
h4 { font-size: 0.95rem; font-weight: 600; color: var(--faint); margin: 1.6rem 0 0.5rem; }
p { margin: 0.4rem 0 0.9rem; max-width: 46rem; text-wrap: pretty; }
a { color: var(--accent); text-underline-offset: 0.15em; }
a:focus-visible, [tabindex]:focus-visible, summary:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 2px;
}
.lead { font-size: 1.1rem; overflow-wrap: anywhere; }
.faint, figcaption, .note { color: var(--faint); font-size: 0.9rem; }
code, .mono { font-family: var(--mono); font-size: 0.86em; overflow-wrap: anywhere; }
nav { margin-bottom: 1.2rem; }
nav ul {
  list-style: none; display: flex; flex-wrap: wrap; gap: 0.3rem 1.3rem; margin: 0.8rem 0 0; padding: 0;
}
.tiles {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: 0.8rem;
  margin: 1.2rem 0 0;
}
.tiles > div {
  background: var(--card); border: 1px solid var(--line); border-radius: 0.6rem; padding: 0.8rem 1rem;
}
.tiles dt { color: var(--faint); font-size: 0.85rem; }
.tiles dd { margin: 0; }
.tiles .figure { font-size: 1.6rem; font-weight: 600; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tiles .under { color: var(--faint); font-size: 0.82rem; overflow-wrap: anywhere; }
figure { margin: 0.8rem 0 1.2rem; }
figcaption { margin-top: 0.5rem; overflow-wrap: anywhere; }
.card {
  background: var(--figure); color: var(--figure-ink); border: 1px solid var(--figure-line);
  border-radius: 0.6rem; padding: 0.9rem; overflow-x: auto;
}
.card svg { display: block; width: 100%; height: auto; margin: 0 auto; }
.card svg text { font-family: var(--sans) !important; }
.card svg text[style*="monospace"] { font-family: var(--mono) !important; }
.large .card svg { min-width: 35rem; max-width: 56rem; }
.maps {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); gap: 1.4rem 1.2rem;
}
.maps figure { margin: 0; min-width: 0; }
.maps .wide { grid-column: 1 / -1; }
.maps .wide svg { min-width: 30rem; }
.maps h4 { margin: 0 0 0.4rem; color: var(--ink); font-family: var(--mono); font-size: 0.82rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 0.6rem; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: 0.84rem; }
table code, table .mono { overflow-wrap: break-word; }
caption { text-align: left; color: var(--faint); font-size: 0.9rem; padding: 0.7rem 0.6rem 0.3rem; }
th, td { padding: 0.45rem 0.6rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th, thead td { border-top: 0; }
thead th { color: var(--faint); font-weight: 600; white-space: nowrap; vertical-align: bottom; }
tbody th { font-weight: 400; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.problem, time { white-space: nowrap; }
.problem .faint { display: block; font-size: 0.9em; }
.number .faint { display: block; max-width: 7.5rem; white-space: normal; font-size: 0.85em; }
.kernel { min-width: 11.5rem; }
.kernel .mono { display: block; color: var(--faint); font-size: 0.8em; }
.strong { font-weight: 650; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--accent); }
.failures li { margin: 0.35rem 0; overflow-wrap: anywhere; }
.failures ul { padding-left: 1.2rem; }
@media (max-width: 40rem) {
  body { padding: 1.5rem 0.9rem 3rem; }
  h1 { font-size: 1.55rem; }
  h2 { margin-top: 2.5rem; }
  .tiles { grid-template-columns: repeat(2, 1fr); gap: 0.5rem; }
  .tiles > div { padding: 0.6rem 0.7rem; }
  .tiles .figure { font-size: 1.3rem; }
  .card { padding: 0.5rem; }
}
@media print {
  :root {
    --ground: #fff; --card: #fff; --ink: #000; --faint: #444; --line: #ccc; --figure: #fff;
  }
  @page { margin: 14mm; }
  body { padding: 0; font-size: 10pt; }
  h2, h3, h4 { break-after: avoid; }
  figure, tr, .tiles > div { break-inside: avoid; }
  .scroll, .card { overflow: visible; border: 0; padding: 0; }
  .large .card svg, .maps .wide svg { min-width: 0; }
  .maps { grid-template-columns: 1fr 1fr; }
  .problem { white-space: normal; overflow-wrap: anywhere; }
  .kernel { min-width: 0; }
  th, td { padding: 0.2rem 0.4rem; }
  table { font-size: 7.5pt; }
  details::details-content { content-visibility: visible; block-size: auto; }
  summary { list-style: none; color: inherit; }
  nav { display: none; }
}
"""
