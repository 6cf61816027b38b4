// A tour of the library: make a small model, teach it a sentence, score, generate, fork a session.

#include <taipan/taipan.h>

#include <exception>
#include <iostream>
#include <string>

namespace {

const std::string kSentence = "The taipan waits in the tall grass. ";

// Mean bits a byte of the text under the model.
double BitsPerByte(const taipan::Model& model, const std::string& text) {
  const std::vector<double> logprobs = model.Score(model.Encode(text));
  double nats = 0;
  for (size_t i = 1; i < logprobs.size(); ++i) nats -= logprobs[i];
  return nats / 0.69314718056 / static_cast<double>(text.size() - 1);
}

void Run() {
  taipan::Model model = taipan::Model::FromPreset("taipan-1m", /*seed=*/1);
  std::cout << "taipan-1m: " << model.parameter_count() << " parameters\n";

  std::string text;
  for (int i = 0; i < 4; ++i) text += kSentence;
  std::cout << "before: " << BitsPerByte(model, text) << " bits a byte\n";

  taipan::Trainer trainer(model);
  const std::vector<taipan::Tokens> rows(2, model.Encode(text));
  for (int step = 1; step <= 30; ++step) {
    const taipan::TrainResult result = trainer.Step(rows, {.learning_rate = 3e-3});
    if (step % 10 == 0) std::cout << "step " << step << ": loss " << result.loss << "\n";
  }
  std::cout << "after:  " << BitsPerByte(model, text) << " bits a byte\n";

  // One session reads the beginning; two forks go on from there in their own ways.
  taipan::Session session(model);
  session.Append(model.Encode("The taipan"));
  taipan::Session fork = session;
  std::cout << "greedy: The taipan" << model.Decode(session.Generate({.max_tokens = 40, .temperature = 0})) << "\n";
  std::cout << "drawn:  The taipan" << model.Decode(fork.Generate({.max_tokens = 40, .temperature = 1, .seed = 7}))
            << "\n";
}

}  // namespace

int main() {
  try {
    Run();
  } catch (const std::exception& error) {
    std::cerr << "quickstart: " << error.what() << "\n";
    return 1;
  }
}
