#include "kind.hpp"

namespace aurora {

// m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  w <- (1 - lr wd) w - lr (m / (1 - b1^t)) / (sqrt(v / (1 -
// b2^t)) + eps): the formula is formulas::Adam, the step adamw_step in step.hpp.
const RuleKind& AdamWOptions::kind() {
  static const RuleKind kind = {
      .name = "adamw",
      .class_name = "AdamW",
      .meaning = "moments of every element; Loshchilov and Hutter, arXiv 1711.05101",
      .formula =
          "m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;\n"
          "w <- (1 - lr weight_decay) w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)",
      .fields = {
          {"lr", at<&AdamWOptions::lr>, "learning rate, eta"},
          {"beta1", at<&AdamWOptions::beta1>, "decay of the first moment", {.high = 1, .high_open = true}},
          {"beta2", at<&AdamWOptions::beta2>, "decay of the second moment", {.high = 1, .high_open = true}},
          {"eps", at<&AdamWOptions::eps>, "added to the root of the second moment", {.low_open = true}},
          {"weight_decay", at<&AdamWOptions::weight_decay>,
           "lambda of the decoupled decay W <- (1 - lr lambda) W"},
      }};
  return kind;
}

}  // namespace aurora
