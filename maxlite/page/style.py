"""How a page looks. Colours of series are those of Okabe and Ito,
which all eyes can tell apart."""

STYLE = """
:root{color-scheme:light dark;--paper:#fdfdfb;--card:#fff;--ink:#1d2228;--soft:#59626d;
--line:#dfe2e4;
--faint:#f1f3f3;--link:#00568a;--mark:#ffe2b8;--good:#00694c;--bad:#a63c00;
--s0:#6b737c;--s1:#0072b2;--s2:#d55e00;--s3:#009e73;--s4:#b5508a;--s5:#b88000;--s6:#3d9ad6}
@media (prefers-color-scheme:dark){:root{--paper:#14181c;--card:#1b2026;--ink:#e6e8ea;
--soft:#a2abb5;
--line:#343b43;--faint:#232930;--link:#7cc4f5;--mark:#6a4200;--good:#4fd1a8;--bad:#ff9d66;
--s0:#98a1ab;--s1:#56b4e9;--s2:#f0813a;--s3:#2cc49a;--s4:#e08fbd;--s5:#e6b030;--s6:#8fcdf2}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0 auto;max-width:72rem;padding:clamp(1rem,4vw,3rem);background:var(--paper);
color:var(--ink);
font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Noto Sans CJK KR",
sans-serif;
overflow-wrap:anywhere}
h1,h2,h3{line-height:1.2;text-wrap:balance;letter-spacing:-.01em}
h1{font-size:clamp(1.7rem,4.5vw,2.5rem);margin:0 0 .5rem}
h2{font-size:1.4rem;margin:0 0 .35rem}
h3{font-size:1rem;margin:1.6rem 0 .4rem}
h2 a{color:inherit;text-decoration:none}h2 a:hover{text-decoration:underline}
a{color:var(--link)}:focus-visible{outline:2px solid var(--link);outline-offset:2px}
p{margin:.4rem 0;max-width:68ch}
.lead,header div,footer,figcaption{color:var(--soft)}
.lead{margin-bottom:1rem}
section{margin-top:3rem;padding-top:1.5rem;border-top:1px solid var(--line)}
nav{margin-top:1.25rem;font-size:.9rem}
nav ol{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;list-style:none;margin:0;padding:0}
nav a{text-decoration:none}nav a:hover{text-decoration:underline}
.facts{margin:1rem 0 1.5rem}.facts h3{margin-top:0}
.facts dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,9.5rem),1fr));
gap:.75rem;margin:0}
.facts div{background:var(--card);border:1px solid var(--line);border-radius:.5rem;
padding:.75rem .9rem}
.facts dt{font-size:.82rem;color:var(--soft)}.facts dd{margin:0;font-size:.82rem;
color:var(--soft)}
.facts .value{font-size:1.4rem;line-height:1.3;color:var(--ink);font-weight:600;
font-variant-numeric:tabular-nums;letter-spacing:-.02em}
.remark{border-left:3px solid var(--s0);padding:.35rem .8rem;background:var(--faint);
border-radius:0 .3rem .3rem 0}
.remark.good{border-color:var(--good)}.remark.bad{border-color:var(--bad)}
.scroll{overflow-x:auto;margin:.6rem 0 1rem;border:1px solid var(--line);border-radius:.5rem;
background:var(--card)}
table{border-collapse:separate;border-spacing:0;width:max-content;min-width:100%;font-size:.88rem;overflow-wrap:normal}
th,td{padding:.4rem .75rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
tbody tr:last-child>*{border-bottom:0}
thead th{font-weight:600;color:var(--soft);white-space:nowrap;vertical-align:bottom;
background:var(--faint)}
tbody th{font-weight:500;max-width:18rem;overflow-wrap:anywhere}
td{max-width:30rem}
th:first-child{position:sticky;left:0;background:var(--card)}
thead th:first-child{background:var(--faint)}
td>code{white-space:pre}
.figure{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
small{color:var(--soft)}
code{font:.92em/1.45 ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",
"Noto Sans Mono CJK KR",monospace;
white-space:pre-wrap;unicode-bidi:isolate;background:var(--faint);border-radius:.25rem;
padding:.05em .3em}
code i{font-style:normal;font-size:.78em;color:var(--bad);border:1px solid currentColor;
border-radius:.2rem;
padding:0 .2em;margin:0 .1em}
.pieces{display:inline-flex;flex-wrap:wrap;gap:.2rem;direction:ltr}
td .pieces{min-width:16rem}
code.marked{background:var(--mark);box-shadow:inset 0 -2px var(--bad)}
.change{margin:.6rem 0 1.1rem}.change p{margin:.15rem 0;max-width:none}
.some{display:flex;flex-wrap:wrap;gap:.35rem 1.1rem;list-style:none;margin:.3rem 0 1rem;padding:0}
.texts{margin:.4rem 0}.texts dt{font-size:.82rem;color:var(--soft);margin-top:.7rem}
.texts dd{margin:.15rem 0 0;padding:.45rem .8rem;background:var(--faint);border-radius:.3rem;
max-height:28rem;overflow-y:auto}
pre{margin:.4rem 0;overflow-x:auto}pre code{display:block;padding:.7rem .9rem;
white-space:pre;width:max-content;min-width:100%}
details{margin:.6rem 0}summary{cursor:pointer;font-weight:500}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,27rem),1fr));
gap:1.25rem;margin:1rem 0}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:.5rem;
padding:1rem}
figcaption{font-size:.85rem;margin-top:.5rem}
svg{display:block;width:100%;height:auto;font:11.5px system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans",
"Noto Sans CJK KR",sans-serif;font-variant-numeric:tabular-nums;overflow:visible}
svg text{fill:var(--ink)}svg .soft{fill:var(--soft)}svg .head{font-weight:600}
svg .grid{stroke:var(--line);stroke-width:1}svg .axis{stroke:var(--soft);stroke-width:1}
svg .curve{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}
svg .mark{stroke:var(--soft);stroke-width:1;stroke-dasharray:1 3}
svg .points{fill:none;stroke-width:1.3;stroke-linecap:round;opacity:.6}
svg .points.s0{stroke-width:3.4}svg .points.key{opacity:1}
svg .empty{fill:var(--faint);stroke:var(--line);stroke-width:.6}
svg .lead-line{stroke:var(--soft);stroke-width:.8;fill:none}
.s0{--c:var(--s0)}.s1{--c:var(--s1)}.s2{--c:var(--s2)}.s3{--c:var(--s3)}.s4{--c:var(--s4)}
.s5{--c:var(--s5)}.s6{--c:var(--s6)}
.stroke{stroke:var(--c)}.fill{fill:var(--c)}
@media (max-width:34rem){svg{font-size:13.5px}
tbody th{max-width:9rem}figure{padding:.75rem .6rem}th,td{
padding:.35rem .55rem}}
footer{margin-top:3rem;padding-top:1rem;border-top:1px solid var(--line);font-size:.85rem}
@media print{nav{display:none}section{break-inside:avoid-page}.scroll{overflow:visible}
.texts dd{max-height:none}}
"""
