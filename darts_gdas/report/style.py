"""The look of the pages: light and dark, on a telephone and on a wide screen."""

from darts_gdas.report.text import INK, PILLS

COLORS = """
  --page: #f6f7f9; --card: #ffffff; --ink: #14202c; --soft: #5a6673; --line: #d9dee4;
  --accent: #1f5f9e; --warn: #fff3d6; --warn-line: #c98500; --wire: #75808c;
  --node: #2b3a4b; --node-ink: #ffffff;
  --s0: #2a78d6; --s1: #d9561f; --s2: #1b9a6c; --s3: #b98300;
  --s4: #c9457f; --s5: #4a3aa7; --s6: #5a8f00; --s7: #d13a39;
"""

DARK = """
  --page: #11161c; --card: #1a212a; --ink: #e6ebf0; --soft: #9ba8b5; --line: #323c47;
  --accent: #7db4ee; --warn: #3a2f14; --warn-line: #d9a021; --wire: #8592a0;
  --node: #c9d3dd; --node-ink: #14202c;
  --s0: #5b9cf0; --s1: #f0824f; --s2: #35bf8d; --s3: #dba72b;
  --s4: #e87ba4; --s5: #a79bf5; --s6: #9ac53a; --s7: #ef7474;
"""

SERIES = "".join(
    f".s{i} {{ color: var(--s{i}); }} .swatch.s{i} {{ background: var(--s{i}); }}\n"
    for i in range(8)
)

BOXES = "".join(
    f".box.{family.value} {{ fill: {fill}; stroke: {line}; }}\n"
    for family, (fill, line, _) in PILLS.items()
)

STYLE = f"""
:root {{ color-scheme: light dark; {COLORS} }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere;
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }}
main {{ max-width: 1280px; margin: 0 auto; padding: 16px 12px 48px; }}
h1 {{ font-size: 1.6rem; margin: 8px 0 0; line-height: 1.25; }}
h2 {{ font-size: 1.15rem; margin: 0 0 10px; }}
h3 {{ font-size: 1rem; margin: 18px 0 6px; }}
p {{ margin: 4px 0; }}
a {{ color: var(--accent); }}
.soft {{ color: var(--soft); }}
section {{ background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 16px; margin-top: 16px; }}
.warning {{ background: var(--warn); border-color: var(--warn-line); }}
.facts {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(140px, 1fr));
  gap: 12px 18px; margin: 0; }}
.facts div {{ min-width: 0; }}
.facts dt {{ color: var(--soft); font-size: .8rem; }}
.facts dd {{ margin: 0; font-size: 1.05rem; font-weight: 600; }}
.charts {{ display: grid; gap: 18px 22px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 290px), 1fr)); }}
.small {{ display: grid; gap: 8px 10px;
  grid-template-columns: repeat(auto-fill, minmax(138px, 1fr)); }}
figure {{ margin: 0; min-width: 0; max-width: 460px; }}
figcaption {{ font-weight: 600; font-size: .9rem; }}
.small figcaption {{ font-weight: 400; font-size: .82rem; }}
figure svg {{ display: block; width: 100%; height: auto; overflow: visible; }}
svg text {{ fill: var(--ink); font: 11px system-ui, "DejaVu Sans", sans-serif; }}
svg .tick {{ fill: var(--soft); font-size: 10.5px; }}
.tick.y, .tick.name {{ text-anchor: end; }} .tick.x {{ text-anchor: middle; }}
.grid {{ stroke: var(--line); }} .axis {{ stroke: var(--soft); }}
.curve {{ fill: none; stroke: currentColor; stroke-width: 1.7; stroke-linejoin: round; }}
.dashed {{ stroke-dasharray: 4 3; }} .dot {{ fill: currentColor; }}
.front {{ fill: none; stroke: var(--soft); }}
.dot.ring {{ fill: none; stroke: var(--ink); stroke-width: 1.4; }}
.mean {{ stroke: var(--ink); stroke-width: 2; }}
.strip > span {{ font-size: .85rem; }}
.legend {{ list-style: none; display: flex; flex-wrap: wrap; gap: 2px 14px; padding: 0;
  margin: 6px 0 8px; font-size: .85rem; }}
.swatch {{ display: inline-block; width: 14px; height: 3px; border-radius: 2px;
  vertical-align: middle; margin-right: 6px; }}
.swatch.dashed {{ opacity: .55; }}
{SERIES}
.cells {{ display: flex; flex-wrap: wrap; gap: 0 32px; }} .cells > div {{ max-width: 100%; }}
.scroll, .cell {{ overflow-x: auto; max-width: 100%; }}
.cell svg {{ display: block; }}
.rim {{ fill: none; stroke: var(--card); stroke-width: 5; }}
.wire {{ fill: none; stroke: var(--wire); stroke-width: 1.6; }}
svg .op {{ fill: {INK}; text-anchor: middle; }}
{BOXES}
.box.outside {{ fill: var(--card); stroke: var(--wire); }} svg .op.outside {{ fill: var(--ink); }}
.box.node {{ fill: var(--node); stroke: var(--node); }} svg .op.node {{ fill: var(--node-ink); }}
table {{ border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 4px 10px; border-bottom: 1px solid var(--line); text-align: right; }}
th {{ font-weight: 600; overflow-wrap: normal; }}
th:first-child {{ text-align: left; }}
th[scope=row] {{ font-weight: 400; overflow-wrap: anywhere; min-width: 11em; }}
td {{ overflow-wrap: normal; white-space: nowrap; }}
.shade {{ background: color-mix(in srgb, var(--s0) calc(var(--share) * 70%), transparent); }}
pre {{ margin: 4px 0; padding: 10px 12px; background: var(--page); border-radius: 6px;
  border: 1px solid var(--line); white-space: pre-wrap; font-size: .85rem; }}
summary {{ cursor: pointer; color: var(--accent); }}
details > *:not(summary) {{ margin-top: 8px; }}
"""
