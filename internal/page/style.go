package page

// style is the style sheet of all pages. Colours have a contrast of at least 4.5 to 1 in light and dark mode; a test in a
// browser measures it.
const style = `:root{color-scheme:light dark;--bg:#fafaf9;--card:#fff;--fg:#1d2125;--soft:#5a6270;--line:#e2e4e8;--good:#17724a;--goodbg:#e6f4ec;--bad:#b3261e;--badbg:#fdebe9;--wait:#855300;--waitbg:#fcf1d8;--mute:#eceef1;--band:#dde3ec;--band2:#cbd4e1;--ok:#3da676;--no:#d5453b}
@media screen and (prefers-color-scheme:dark){:root{--bg:#131519;--card:#1a1d23;--fg:#e5e7ea;--soft:#9ca5b2;--line:#2d323b;--good:#62cf9c;--goodbg:#14302480;--bad:#ff8f83;--badbg:#40201d80;--wait:#e8b95a;--waitbg:#3a2e1180;--mute:#262b33;--band:#323b49;--band2:#414c5e;--ok:#3da676;--no:#e5635a}}
*{box-sizing:border-box}
body{font:15px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif;background:var(--bg);color:var(--fg);max-width:62rem;margin:0 auto;padding:2rem 1.25rem 3rem;overflow-wrap:anywhere}
h1{font-size:1.75rem;line-height:1.2;margin:.1rem 0 .4rem;letter-spacing:-.01em}
h2{font-size:1.1rem;margin:2.75rem 0 .75rem}
h3{font-size:.95rem;margin:1.1rem 0 .3rem}
p{margin:.35rem 0}ul{margin:.4rem 0;padding-left:1.2rem}
.soft,footer,dt,th,figcaption,.axis{color:var(--soft)}
.tag{display:inline-block;border-radius:1rem;padding:.05rem .6rem;font-size:.82rem;font-weight:600;background:var(--mute);color:var(--soft);white-space:nowrap}
.tag.pass,.tag.done{background:var(--goodbg);color:var(--good)}.tag.fail,.tag.stopped{background:var(--badbg);color:var(--bad)}.tag.unknown,.tag.wait{background:var(--waitbg);color:var(--wait)}
.bad{color:var(--bad)}.warn{color:var(--wait)}
header{border-bottom:1px solid var(--line);padding-bottom:1.5rem}
.verdict{font-size:1.05rem;margin:1rem 0}.verdict .tag{font-size:.95rem;padding:.15rem .8rem;margin-right:.4rem;text-transform:uppercase;letter-spacing:.04em}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.6rem,1fr));gap:.75rem;margin:1.25rem 0 0}
.figures div{display:flex;flex-direction:column-reverse;justify-content:flex-end;background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.6rem .8rem}
.figures dt{font-size:.85rem;line-height:1.35}.figures dd{margin:0;font-size:1.2rem;font-weight:650;font-variant-numeric:tabular-nums}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem}
figure h3{margin:.9rem 0 .15rem}figure h3 span{font-weight:400;color:var(--soft)}
.lane{display:grid;grid-template-columns:15rem minmax(0,1fr);gap:.75rem;align-items:center}
.lane>span{font-size:.85rem;line-height:1.25}.track{position:relative;height:1.5rem;background:repeating-linear-gradient(to right,var(--line) 0 1px,transparent 1px 25%);border-right:1px solid var(--line)}
.track svg{display:block;width:100%;height:100%}.track span{position:absolute;top:0;bottom:0;overflow:hidden;border-radius:.2rem;background:var(--band);font-size:.75rem;line-height:1.5rem;text-align:center}
.track span:nth-child(even){background:var(--band2)}.axis .track{background:none;border:0;display:flex;justify-content:space-between;font-size:.75rem}
.axis .track b{font-weight:400}figcaption{font-size:.85rem;margin-top:.6rem}
.key{display:inline-block;width:.7rem;height:.7rem;border-radius:.15rem;margin:0 .3rem 0 .6rem}.key:first-child{margin-left:0}.key.ok{background:var(--ok)}.key.no{background:var(--no)}.key.off{border:1px solid var(--soft)}
table{border-collapse:collapse;width:100%;margin:.5rem 0;font-size:.92rem}
td,th{border-bottom:1px solid var(--line);padding:.35rem .9rem .35rem 0;text-align:left;vertical-align:top}th{font-weight:500;font-size:.85rem}
td:last-child,th:last-child{padding-right:0}.steps tr:last-child td{border-bottom:0}.whole{white-space:nowrap}.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.steps{list-style:none;margin:0;padding:0;background:var(--card);border:1px solid var(--line);border-radius:.6rem}
.steps>li+li{border-top:1px solid var(--line)}
summary{cursor:pointer;list-style:none}summary::-webkit-details-marker{display:none}summary::before{content:"\25b8";color:var(--soft)}details[open]>summary::before{content:"\25be"}
summary:focus-visible{outline:2px solid var(--ok);outline-offset:-2px;border-radius:.6rem}
.steps>li>details>summary{display:grid;grid-template-columns:auto 2.6rem minmax(0,1fr) auto 12rem;gap:.6rem;align-items:baseline;padding:.55rem 1rem}
.steps>li>details>summary>:last-child{grid-column:5;text-align:right;font-size:.88rem}.num{color:var(--soft);text-align:right;font-variant-numeric:tabular-nums}
.body{padding:.1rem 1rem 1rem 4.9rem}.act{border-top:1px solid var(--line);margin-top:.9rem;padding-top:.1rem}
.states{list-style:none;padding:0;margin:0}.states>li{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.5rem .9rem;margin:0}.states>.edge{background:none;border:0;border-left:2px solid var(--band2);border-radius:0;margin-left:1.4rem;padding:.35rem .9rem}.states .lines{margin:0}.lines .new{color:var(--good)}.lines .new::before{content:"+\00a0"}.lines .gone{color:var(--soft)}.lines .gone::before{content:"\2212\00a0"}.lost{color:var(--bad)}
.roles details{border-bottom:1px solid var(--line);padding:.5rem 0}.roles .body{padding:.3rem 0 .3rem 1.1rem}
.lines{list-style:none;padding:0;margin:.2rem 0 .8rem;font:.85rem/1.5 ui-monospace,Menlo,Consolas,monospace}.lines li{padding-left:1.3rem;text-indent:-1.3rem}.lines li::before{content:"\00a0\00a0"}.lines.minus li::before{content:"\2212\00a0"}.lines.plus li::before{content:"+\00a0"}.lines.minus{color:var(--good)}.lines.plus{color:var(--bad)}
pre{white-space:pre-wrap;background:var(--mute);padding:.7rem .9rem;margin:.5rem 0;border-radius:.4rem;font:.82rem/1.5 ui-monospace,Menlo,Consolas,monospace}code{font:.88em ui-monospace,Menlo,Consolas,monospace}
footer{margin-top:3rem;border-top:1px solid var(--line);padding-top:.8rem;font-size:.88rem}
@media(max-width:44rem){body{padding:1.25rem .9rem 2rem}.figures{grid-template-columns:repeat(2,minmax(0,1fr))}.lane{grid-template-columns:minmax(0,1fr);gap:.1rem}.lane+.lane{margin-top:.3rem}figure{padding:.8rem}
.steps>li>details>summary{grid-template-columns:auto auto minmax(0,1fr) auto;padding:.55rem .7rem}.steps>li>details>summary>:last-child{grid-column:3/-1;text-align:left}.body{padding:.1rem .8rem .9rem}
thead{display:none}table,tbody,tr,td{display:block}tr{border-bottom:1px solid var(--line);padding:.4rem 0}td{border:0;padding:.05rem 0 .05rem 6.6rem;text-indent:-6.6rem}td>*{text-indent:0}td.n{text-align:left}td.n,td.whole{white-space:normal}td::before{content:attr(data-label);display:inline-block;width:6.6rem;color:var(--soft);font-size:.85rem;text-indent:0}td:empty{display:none}}
@media print{:root{color-scheme:light;--bg:#fff;--fg:#000;--soft:#444}body{max-width:none;padding:0;font-size:10.5pt}*{print-color-adjust:exact}details::details-content{content-visibility:visible;block-size:auto}summary::before,details[open]>summary::before{content:""}figure,.figures div,tr,.act{break-inside:avoid}h2,h3,summary{break-after:avoid}}
`
