// The generator of model.py with the attention of attention.py, in plain JavaScript.
//
// A feature map is one array as in torch, channel after channel and in it row after row: (channels, side, side).
// Queries, keys and values have a row of numbers for each of the n = side * side places: (n, d).  All these arrays
// are float64, as JavaScript's own numbers are, because to convert float32 ones takes a quarter of the time again.

// z (128) -> the picture: red, green, blue and 255 for each pixel.  `gamma`: times what was learned.
// `maps`: {} for a new z; what is left there saves a next call with another gamma the way up to the attention.
function generate(network, z, gamma, maps) {
  let x = z, attended = false;
  for (const r in network.blocks) { // 4, 8, ... up to the picture's side
    if (attended || !maps[r]) maps[r] = {before: block(x, network.blocks[r], +r)};
    const map = maps[r], layer = network.attention[r];
    x = map.before;
    if (!layer) continue;
    if (!map.mixed) Object.assign(map, selfAttention(x, layer, r * r));
    const mixed = transpose(map.mixed, r * r); // (channels, n), as x is
    x = map.after = x.map((number, k) => number + gamma * layer.gamma * mixed[k]);
    attended = true; // and so all that follows depends on gamma
  }
  return toPixels(batchNorm(convolution(x, network.to_rgb), network.to_rgb));
}
function block(x, layers, r) {
  const y = r === 4 ? matrixProduct(x, layers.weight, x.length) : convolution(upsample(x, r), layers);
  return batchNorm(y, layers).map(number => Math.max(0, number)); // relu
}
function batchNorm(x, {scale, bias}) { // two constants for each channel, once it is trained; to_rgb has a bias alone
  const n = x.length / bias.length;
  return x.map((number, k) => scale[Math.floor(k / n)] * number + bias[Math.floor(k / n)]);
}
function upsample(x, side) { // to this side: each number becomes 2 x 2
  return new Float64Array(4 * x.length).map((_, k) =>
    x[(Math.floor(k / side) >> 1) * side / 2 + (k % side >> 1)]); // in half the row and half the column
}
function convolution(x, {weight, bias}) { // 3x3
  const channels = weight.length / bias.length / 9, side = Math.sqrt(x.length / channels), width = side + 2;
  const padded = Array.from({length: channels}, () => new Float64Array(width ** 2)); // with a border of zeros
  for (let row = 0; row < channels * side; row++)
    padded[Math.floor(row / side)].set(x.subarray(row * side, (row + 1) * side), (row % side + 1) * width + 1);
  const sum = new Float64Array(width ** 2), y = new Float64Array(bias.length * side ** 2);
  for (let c = 0; c < bias.length; c++) {
    sum.fill(0);
    padded.forEach((channel, i) => addProducts(sum, channel, width, weight, (c * channels + i) * 9));
    for (let row = 0; row < side; row++)
      y.set(sum.subarray((row + 1) * width + 1, (row + 2) * width - 1), (c * side + row) * side);
  }
  return y;
}
function addProducts(sum, x, width, weight, w) { // a 3x3 window moves over a padded channel
  const a = weight[w], b = weight[w + 1], c = weight[w + 2], d = weight[w + 3], e = weight[w + 4], f = weight[w + 5];
  const g = weight[w + 6], h = weight[w + 7], i = weight[w + 8];
  let x1 = x[0], x2 = x[1], x4 = x[width], x5 = x[width + 1], x7 = x[2 * width], x8 = x[2 * width + 1];
  for (let p = 2; p < width * (width - 2); p++) { // it is at two columns of the border too, whose sums nobody reads
    const x3 = x[p], x6 = x[width + p], x9 = x[2 * width + p];
    sum[width + p - 1] += a * x1 + b * x2 + c * x3 + d * x4 + e * x5 + f * x6 + g * x7 + h * x8 + i * x9;
    x1 = x2; x2 = x3; x4 = x5; x5 = x6; x7 = x8; x8 = x9;
  }
}
function toPixels(x) { // tanh of (3, side, side)
  const n = x.length / 3;
  return Uint8ClampedArray.from({length: 4 * n}, (_, k) =>
    k % 4 === 3 ? 255 : Math.round((Math.tanh(x[k % 4 * n + (k >> 2)]) + 1) * 127.5));
}

// attention.py
function selfAttention(map, layer, n) { // -> query and key (n, d), value and mixed (n, channels)
  const channels = map.length / n, x = transpose(map, channels);
  const [query, key, value] = [layer.query, layer.key, layer.value].map(weight => matrixProduct(x, weight, channels));
  const mixed = new Float64Array(value.length);
  for (let i = 0; i < n; i++) {
    const share = softmax(scores(rowOf(query, i, n), key)); // row i of the attention map
    mixed.set(mixture(share, value), i * channels);
  }
  return {query, key, value, mixed};
}
function scores(q, key) { // q . k_j for each place j
  return matrixProduct(q, key, q.length);
}
function softmax(score) { // -> the shares a_j = exp(score_j) / sum of all exp(score_m)
  const highest = score.reduce((a, b) => Math.max(a, b));
  const exp = score.map(number => Math.exp(number - highest)); // the shares stay the same, but nothing overflows
  const sum = exp.reduce((a, b) => a + b);
  return exp.map(number => number / sum);
}
function mixture(share, value) { // sum over j of a_j v_j, four places at a time, because that takes half as long
  const channels = value.length / share.length, sum = new Float64Array(channels);
  for (let j = 0; j < share.length; j += 4) {
    const a = share[j], b = share[j + 1], c = share[j + 2], d = share[j + 3];
    for (let e = 0; e < channels; e++) {
      const v = j * channels + e;
      sum[e] += a * value[v] + b * value[v + channels] + c * value[v + 2 * channels] + d * value[v + 3 * channels];
    }
  }
  return sum;
}

function matrixProduct(rows, weight, d) { // (n, d) and (m, d) -> (n, m): each row times each row of weights
  const n = rows.length / d, m = weight.length / d, y = new Float64Array(n * m);
  for (let i = 0; i < n; i++)
    for (let k = 0; k < m; k++) {
      let sum = 0;
      for (let e = 0; e < d; e++) sum += rows[i * d + e] * weight[k * d + e];
      y[i * m + k] = sum;
    }
  return y;
}
function transpose(x, n) { // (n, d) -> (d, n)
  return new Float64Array(x.length).map((_, k) => x[k % n * (x.length / n) + Math.floor(k / n)]);
}
function rowOf(x, i, n) { // row i of (n, d)
  return x.subarray(i * x.length / n, (i + 1) * x.length / n);
}

// What look.py packed -> typed arrays.
function unpack(x) {
  if (typeof x !== 'object') return x;
  const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer;
  if (x.int8) return new Int8Array(bytes(x.int8));
  if (x.float32) return Float64Array.from(new Float32Array(bytes(x.float32)));
  return Object.fromEntries(Object.entries(x).map(([name, inner]) => [name, unpack(inner)]));
}
// In the worker: the page's question -> the picture and the maps on the way to it.
const networks = [];
let last, maps;
function answer({snapshot, z, gamma}) {
  networks[snapshot] ??= unpack(snapshots[snapshot]);
  if (last !== `${snapshot} ${z}`) maps = {};
  last = `${snapshot} ${z}`;
  return {pixels: generate(networks[snapshot], z, gamma, maps), maps};
}
