#include "cli/selection_page.h"

#include "plot/page.h"

namespace taipan {
namespace {

constexpr std::string_view kStyle =
    R"html(  .cell { font-family: ui-monospace, monospace; white-space: pre; background: #eee; border-radius: 3px; padding: 0 .2rem; }
  fieldset { border: 0; padding: 0; margin: .4rem 0; } label { margin-right: 1rem; white-space: nowrap; }
  #text { font: 14px/1.75 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid #ccc;
    border-radius: 4px; padding: .8rem; max-height: 36rem; overflow-y: auto; }
  #text span { border-bottom: 2px solid transparent; }
  #text span.on { border-bottom-color: currentColor; }
  #text hr { border: 0; border-top: 1px dashed #aaa; margin: .4rem 0; }
  .row { display: flex; flex-wrap: wrap; gap: 0 3rem; }
  svg text { font: 11px system-ui, sans-serif; fill: #555; }
  .key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .3em; }
)html";

constexpr std::string_view kBody = R"html(<h1>Which tokens attend</h1>
<div id="about"></div>
<noscript><p>The data is in this file; drawing it needs JavaScript.</p></noscript>
<div id="sals"></div>
<h2>The text</h2>
<fieldset id="which"></fieldset>
<fieldset id="what"></fieldset>
<p id="hint"></p>
<div id="text"></div>
<h2>Share by position in the window</h2>
<div id="positions"></div>
<h2>Share by kind of token</h2>
<div id="classes"></div>
<div class="row">
  <div><h2>Most selected tokens</h2><div id="tokens"></div></div>
  <div><h2>Agreement of the layers</h2><p>Tokens that both selected, over what chance would give: 1 = as by chance.</p><div id="agreement"></div></div>
</div>
<script type="application/json" id="data">)html";

constexpr std::string_view kScript = R"html(</script>
<script>
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const sals = data.selected_share.length;
const colours = ['#0969da', '#d1570b', '#1a7f37', '#8250df', '#bf3989', '#0e7490', '#9a6700', '#57606a'];
const colour = s => colours[s % colours.length];
const number = (x, digits) => x === null || x === undefined ? '-' : x.toFixed(digits);
const percent = x => (100 * x).toFixed(1) + ' %';
// All text goes in as text nodes: nothing of the data is ever read as markup.
function add(parent, tag, text, attributes) {
  const svg = parent.namespaceURI === 'http://www.w3.org/2000/svg' || tag === 'svg';
  const made = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  parent.appendChild(made);
  return made;
}
const at = id => document.getElementById(id);
function table(id, head, rows) {
  const made = add(at(id), 'table');
  const top = add(made, 'tr');
  head.forEach(name => add(top, 'th', name));
  rows.forEach(cells => {
    const line = add(made, 'tr');
    cells.forEach(cell => {
      const td = add(line, 'td', typeof cell === 'object' ? null : cell);
      if (typeof cell === 'object') add(td, 'span', cell.token, {class: 'cell'});
    });
  });
}
const names = data.layers.map((layer, s) => 'SAL ' + s);

function bars(id, groups, label) {
  const wide = Math.max(groups.length * (14 * sals + 18), 300), left = 60, base = 140, top = 12;
  const most = Math.max(0.01, ...groups.flatMap(g => g.selected_share)) * 1.05;
  const longest = Math.max(...groups.map(g => label(g).length));
  const svg = add(at(id), 'svg', null, {width: wide + left + 10, height: base + 20 + 4 * longest, role: 'img'});
  for (let i = 0; i <= 4; ++i) {
    const y = base - (base - top) * i / 4;
    add(svg, 'line', null, {x1: left, x2: left + wide, y1: y, y2: y, stroke: '#ddd'});
    add(svg, 'text', percent(most * i / 4), {x: left - 4, y: y + 4, 'text-anchor': 'end'});
  }
  groups.forEach((g, i) => {
    const x = left + i * wide / groups.length + 6;
    g.selected_share.forEach((share, s) => {
      const h = (base - top) * share / most;
      const bar = add(svg, 'rect', null, {x: x + 14 * s, y: base - h, width: 12, height: h, fill: colour(s)});
      add(bar, 'title', names[s] + ', ' + label(g) + ': ' + percent(share) + ' of ' + g.tokens);
    });
    const middle = x + 7 * sals;
    add(svg, 'text', label(g), {x: middle, y: base + 12, 'text-anchor': 'end', transform: `rotate(-35 ${middle} ${base + 12})`});
  });
  const legend = add(at(id), 'div');
  names.forEach((name, s) => {
    const entry = add(legend, 'label');
    add(entry, 'span', null, {class: 'key', style: 'background:' + colour(s)});
    entry.append(name);
  });
}

const about = [`${data.tokens} tokens in windows of ${data.context}`, `refinement ${data.refinement}`,
  `selection ${data.selection}`, `computed in ${data.dtype}`];
add(at('about'), 'p', `${data.model} reading ${data.text}`);
add(at('about'), 'p', about.join(' · '));
document.title = 'Selection: ' + data.model;
const measured = data.gate_auc !== undefined;
table('sals', ['', 'layer', 'share selected', 'mean alpha'].concat(
    measured ? ['AUC', 'AUC at equal alpha', 'AUC of surprise', 'AUC on the sample', 'rank correlation'] : []), names.map((name, s) =>
  [name, data.layers[s], percent(data.selected_share[s]), number(data.mean_alpha[s], 3)].concat(measured ?
    [number(data.gate_auc[s], 3), number(data.gate_auc_equal_alpha[s], 3), number(data.surprise_auc_equal_alpha[s], 3),
     number(data.gate_auc_exact[s], 3), number(data.benefit_correlation[s], 3)] : [])));
if (measured) add(at('sals'), 'p', 'AUC: how often the gate puts one of the tokens that attention helps most above another. 0.5 = as by chance.');

const spans = [];
let windowOf = 0;
data.texts.forEach((text, i) => {
  if (i >= windowOf + data.context) {
    windowOf += data.context;
    add(at('text'), 'hr');
  }
  spans.push(add(at('text'), 'span', text.replaceAll('\u21B5', '\u21B5\n')));
});
const view = {sal: 0, what: 'alpha'};
function shade(i) {
  const s = view.sal;
  if (s < 0) {
    let count = 0;
    for (let k = 0; k < sals; ++k) count += data.selected[k][i] === '1';
    return [count / sals * 0.7, '#bf3989', count > 0];
  }
  const on = data.selected[s][i] === '1';
  if (view.what === 'alpha') return [data.alpha[s][i] * 0.75, colour(s), on];
  if (view.what === 'selected') return [on ? 0.2 + 0.6 * data.alpha[s][i] : 0, colour(s), on];
  const b = data.benefit[s][i] / scale[s];
  return [Math.min(Math.abs(b), 1) * 0.75, b > 0 ? '#1a7f37' : '#cf222e', on];
}
const scale = (data.benefit || []).map(list => {
  const sizes = list.map(Math.abs).sort((a, b) => a - b);
  return sizes[Math.floor(sizes.length * 0.97)] || 1;
});
function paint() {
  spans.forEach((span, i) => {
    const [strength, hue, on] = shade(i);
    span.style.backgroundColor = strength > 0.004 ? hue + Math.round(strength * 255).toString(16).padStart(2, '0') : '';
    span.className = on ? 'on' : '';
  });
  at('hint').textContent = view.sal < 0 ? 'The more layers select a token, the darker it is. Point at a token for its numbers.' :
    {alpha: 'Colour: alpha, the weight of attention. Underlined: selected.',
     selected: 'Coloured and underlined: selected, the darker the larger its alpha.',
     benefit: 'Green: attending lowers the loss of what follows (first order); red: it raises it. Underlined: selected.'}[view.what] + ' Point at a token for its numbers.';
}
function choice(id, name, entries) {
  entries.forEach(([value, text], i) => {
    const label = add(at(id), 'label');
    const radio = add(label, 'input', null, {type: 'radio', name: name});
    radio.checked = i === 0;
    label.append(' ' + text);
    radio.addEventListener('change', () => { view[name] = value; paint(); });
  });
}
choice('which', 'sal', names.map((name, s) => [s, `${name} (layer ${data.layers[s]})`]).concat(sals > 1 ? [[-1, 'all']] : []));
choice('what', 'what', [['alpha', 'alpha'], ['selected', 'selection']].concat(measured ? [['benefit', 'benefit of attending']] : []));
at('text').addEventListener('mouseover', event => {
  const i = spans.indexOf(event.target);
  if (i < 0 || event.target.title) return;
  const lines = [`token ${i}, position ${i % data.context}` + (data.before_hit[i] === '1' ? ', before a recall hit' : '')];
  names.forEach((name, s) => lines.push(`${name}: ${data.selected[s][i] === '1' ? 'selected' : 'not selected'}, alpha ${number(data.alpha[s][i], 3)}, margin ${number(data.margin[s][i], 3)}` +
    (measured ? `, benefit ${data.benefit[s][i].toExponential(1)}` : '')));
  event.target.title = lines.join('\n');
});
paint();

bars('positions', data.by_position, g => g.positions);
bars('classes', data.by_class, g => g.class);
table('tokens', ['token', 'seen'].concat(names), data.by_token.map(t => [{token: t.text}, t.tokens].concat(t.selected_share.map(percent))));
table('agreement', [''].concat(names), data.agreement.map((row, s) => [names[s]].concat(row.map(x => number(x, 2)))));
</script>
</body>
</html>
)html";

}  // namespace

std::string SelectionPage(const OrderedJson& report) {
  std::string page = PageBegin("Selection", kStyle, /*script=*/true) + std::string(kBody);
  // Within a script element only "<" can end it or open a comment; in JSON it stands in strings alone.
  for (const char c : report.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)) {
    if (c == '<') {
      page += "\\u003c";
    } else {
      page += c;
    }
  }
  page += kScript;
  return page;
}

}  // namespace taipan
