// The settings of a run that say how it is looked after: what it reports, what it keeps, what it does about spikes.

#include "train/settings.h"

namespace taipan {
namespace {

constexpr double kMostSteps = 4294967295;

// on | off, as a string for the command line.
void VisitSwitch(const FieldVisitor& visit, FieldInfo info, bool* on) {
  info.choices = {"on", "off"};
  std::string text = *on ? "on" : "off";
  visit(info, &text);
  *on = text == "on";
}

}  // namespace

void VisitOperations(TrainSettings& s, const FieldVisitor& visit) {
  visit(
      {.name = "sequence_ranks",
       .help = "of several ranks: how many consecutive ones hold the same sequences, a part of each, for contexts too "
               "long for one; a divisor of their number",
       .write = s.sequence_ranks > 1,
       .range = Between(1, 65536)},
      &s.sequence_ranks);
  visit({.name = "keep_every",
         .help = "of every so many steps keep the first checkpoint, too, 0: none",
         .range = Between(0, kMostSteps)},
        &s.keep_every);
  visit(
      {.name = "spike_guard",
       .help = "skip a step whose loss or gradient norm lies this many standard deviations above the mean of the last "
               "128 (6, say); 0: never",
       .range = AtLeast(0)},
      &s.spike_guard);
  visit({.name = "rewind",
         .help = "after --rewind-after skipped steps in a row go back at least so many steps, to a checkpoint, and on "
                 "with the data behind the spike; 0: take the step, as the new level",
         .range = Between(0, kMostSteps)},
        &s.rewind);
  visit({.name = "rewind_after", .help = "skipped steps in a row", .range = Between(1, kMostSteps)}, &s.rewind_after);
  visit({.name = "layer_stats_every",
         .help = "steps between lines of metrics.jsonl about each layer: norm of its state, range of its time steps, "
                 "selected share, alpha; 0: none",
         .range = Between(0, kMostSteps)},
        &s.layer_stats_every);
  VisitSwitch(visit, {.name = "tensorboard", .help = "write RUN_DIR/tensorboard/, event files for TensorBoard"},
              &s.tensorboard);
  VisitSwitch(visit, {.name = "prometheus", .help = "write RUN_DIR/metrics.prom, a text file for Prometheus"},
              &s.prometheus);
}

}  // namespace taipan
