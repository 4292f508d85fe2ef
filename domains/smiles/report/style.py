"""The looks of a report."""

from __future__ import annotations

# From the first token written to the last; light enough for dark text.
ORDER = ("#fff0b3", "#ffd98a", "#ffbd7a", "#ff9f80", "#f58da2", "#d990c6", "#b69be0", "#97a9ec")

CSS = (
    """
:root { --ink: #1c2733; --soft: #5b6875; --line: #dfe4ea; --paper: #f6f7f9; --accent: #1f5fbf; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 34px; line-height: 1.2; margin: 0 0 10px; letter-spacing: -0.01em; }
h2 { font-size: 22px; line-height: 1.3; margin: 0 0 8px; }
h3 { font-size: 16px; margin: 20px 0 6px; }
p { margin: 0 0 12px; max-width: 78ch; }
.lead { font-size: 18px; color: var(--soft); margin: 0; }
nav { display: flex; flex-wrap: wrap; gap: 6px 20px; margin: 18px 0 22px; padding: 10px 0; font-size: 14px;
  border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 24px 28px 20px;
  margin: 0 0 20px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 14px; margin: 0 0 20px; }
.tile { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 14px 18px; }
.tile .name { font-size: 13px; color: var(--soft); }
.tile .value { font-size: 28px; font-weight: 650; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile .note { font-size: 13px; color: var(--soft); }
figure { margin: 8px 0 4px; }
figure svg { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { color: var(--soft); font-size: 14px; margin-top: 6px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 6px 0 14px; font-size: 15px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 22px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { font-size: 13px; color: var(--soft); font-weight: 600; }
tbody th { font-weight: 500; }
code, pre, .cells { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code { font-size: 0.9em; background: #eef1f5; padding: 1px 5px; border-radius: 4px; overflow-wrap: anywhere; }
pre { background: #f1f4f8; border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; overflow-x: auto;
  font-size: 14px; line-height: 1.6; margin: 8px 0 14px; }
pre i { color: var(--soft); font-style: normal; }
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: 8px 14px; align-items: center;
  max-width: 760px; margin: 10px 0 16px; font-size: 15px; }
.bar { height: 16px; border-radius: 3px; background: #c3ccd6; }
.bar.mine { background: var(--accent); }
.number { font-variant-numeric: tabular-nums; }
.trace { display: grid; grid-template-columns: minmax(0, 1fr) 250px; gap: 8px 24px; align-items: center;
  padding: 16px 0; border-top: 1px solid var(--line); }
.stage { display: flex; align-items: center; margin: 2px 0; }
.stage .count { width: 64px; flex: none; color: var(--soft); font-size: 13px; font-variant-numeric: tabular-nums; }
.cells { display: flex; gap: 2px; font-size: 13px; line-height: 22px; }
.cells span { width: 22px; height: 22px; text-align: center; border-radius: 3px; flex: none; }
.cells .m { background: #e3e7ec; color: #a3adb8; }
.cells .new { box-shadow: inset 0 0 0 1.5px #1c2733; }
.key { display: flex; align-items: center; gap: 8px; font-size: 14px; color: var(--soft); margin: 4px 0 14px; }
.key .cells span { width: 26px; }
@media (max-width: 900px) { .trace { grid-template-columns: 1fr; } .cells { overflow-x: auto; } }
"""
    + "\n".join(f".o{i} {{ background: {color}; }}" for i, color in enumerate(ORDER))
    + "\n"
)
