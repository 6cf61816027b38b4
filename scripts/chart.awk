# Draws RUN_DIR/metrics.jsonl in the terminal: bits per byte over steps. A dot is the mean of the training steps of its
# column, an o a validation.  awk -f scripts/chart.awk RUN_DIR/metrics.jsonl
function value(key,   at) {
  at = index($0, "\"" key "\":")
  return at ? substr($0, at + length(key) + 3) + 0 : -1
}
BEGIN { width = 72; height = 14; low = 1e9; high = 0 }
/"valid_bits_per_byte"/ { valids++; valid_step[valids] = value("step"); valid[valids] = value("valid_bits_per_byte"); next }
/"ce"/ { steps++; step[steps] = value("step"); bits[steps] = value("ce") / log(2) }
END {
  if (!steps) exit
  last = step[steps]
  for (i = 1; i <= steps; i++) { x = column(step[i]); sum[x] += bits[i]; count[x]++ }
  for (x = 0; x < width; x++) if (count[x]) { mean[x] = sum[x] / count[x]; range(mean[x]) }
  for (i = 1; i <= valids; i++) if (valid[i] > 0) range(valid[i])
  if (high - low < 0.01) high = low + 0.01
  for (x = 0; x < width; x++) if (count[x]) cell[row(mean[x]), x] = "."
  for (i = 1; i <= valids; i++) if (valid[i] > 0) cell[row(valid[i]), column(valid_step[i])] = "o"
  print "  bits per byte   . training   o validation"
  for (y = 0; y < height; y++) {
    line = sprintf("%7.2f |", high - y * (high - low) / (height - 1))
    for (x = 0; x < width; x++) line = line ((y, x) in cell ? cell[y, x] : " ")
    print line
  }
  rule = ""
  for (x = 0; x < width; x++) rule = rule "-"
  print "        +" rule
  printf "         1%*d  step\n", width - 1, last
}
function column(s) { return last > 1 && s > 0 ? int((s - 1) * (width - 1) / (last - 1)) : 0 }
function row(v) { return int((high - v) / (high - low) * (height - 1) + 0.5) }
function range(v) { if (v < low) low = v; if (v > high) high = v }
