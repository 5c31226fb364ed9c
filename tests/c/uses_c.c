// Every function of aurora.h, called from C11.
#include <aurora/aurora.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static int failures = 0;

static void expect(int holds, const char* what) {
  if (holds) return;
  printf("does not hold: %s; last error: %s\n", what, aurora_last_error());
  ++failures;
}

int main(void) {
  const char* errors_at_first = aurora_last_error();
  expect(errors_at_first != NULL && errors_at_first[0] == '\0', "there is no error at first");
  expect(aurora_abi_version() == AURORA_ABI_VERSION, "library and header belong together");

  aurora_backend* backend = NULL;
  expect(aurora_backend_create_cuda(0, NULL, &backend) != AURORA_OK || backend != NULL, "CUDA, or a reason");
  aurora_backend_destroy(backend);
  backend = NULL;
  expect(aurora_backend_create_cpu(1, &backend) == AURORA_OK, "a CPU backend");
  expect(strstr(aurora_backend_description(backend), "1 thread") != NULL, "its description");

  aurora_rule *muon = NULL, *adamw = NULL;
  expect(aurora_rule_create("muon:lr=1+weight_decay=0+momentum=0+scale=none", &muon) == AURORA_OK, "muon");
  expect(aurora_rule_create("adamw", &adamw) == AURORA_OK, "adamw");
  expect(aurora_rule_create("moon", &adamw) == AURORA_INVALID, "an unknown rule");
  expect(strstr(aurora_last_error(), "muon") != NULL, "the error names the nearest");
  expect(aurora_rule_set(muon, "lr", 0.5) == AURORA_OK, "a learning rate");
  expect(aurora_rule_set(muon, "lr", NAN) == AURORA_INVALID, "no learning rate");
  expect(aurora_rule_row_state_size(muon, 3, 2) == 0, "muon has no row state");

  // The polar factor of diag(3, -2) over a row of zeros is diag(1, -1) over zeros.
  double gradient[6] = {3, 0, 0, -2, 0, 0}, momentum[6] = {0}, weight[6] = {0}, direction[6];
  const aurora_matrix g = aurora_row_major(gradient, 3, 2, AURORA_FLOAT64),
                      m = aurora_row_major(momentum, 3, 2, AURORA_FLOAT64),
                      w = aurora_row_major(weight, 3, 2, AURORA_FLOAT64),
                      u = aurora_row_major(direction, 3, 2, AURORA_FLOAT64);
  expect(aurora_direction(backend, muon, 1, &g, &u) == AURORA_OK, "a direction");
  expect(fabs(direction[0] - 1) < 1e-12 && fabs(direction[3] + 1) < 1e-12, "it is the polar factor");
  expect(aurora_step(backend, muon, 1, &g, &m, NULL, &w) == AURORA_OK, "a step");
  expect(fabs(weight[0] + 0.5) < 1e-12 && fabs(weight[3] - 0.5) < 1e-12, "it steps by lr along it");

  gradient[1] = INFINITY;
  expect(aurora_step(backend, muon, 1, &g, &m, NULL, &w) == AURORA_NOT_FINITE, "an Inf");
  expect(fabs(weight[0] + 0.5) < 1e-12, "it changes nothing");
  int64_t skipped = 0;
  expect(aurora_backend_skipped_steps(backend, &skipped) == AURORA_OK && skipped == 1, "it is counted");

  // From zero moments the first step of AdamW is lr sign(g), but for eps.
  float slope[3] = {2, -3, 0.5F}, exp_avg[3] = {0}, exp_avg_sq[3] = {0}, bias[3] = {0};
  const aurora_matrix s = aurora_row_major(slope, 1, 3, AURORA_FLOAT32),
                      a = aurora_row_major(exp_avg, 1, 3, AURORA_FLOAT32),
                      q = aurora_row_major(exp_avg_sq, 1, 3, AURORA_FLOAT32),
                      b = aurora_row_major(bias, 1, 3, AURORA_FLOAT32);
  expect(aurora_rule_set(adamw, "lr", 0.25) == AURORA_OK, "a learning rate of adamw");
  expect(aurora_adamw_step(backend, adamw, 1, 1, &s, &a, &q, &b) == AURORA_OK, "a step of adamw");
  expect(fabsf(bias[0] + 0.25F) < 1e-6F && fabsf(bias[1] - 0.25F) < 1e-6F, "it steps by lr against the sign");

  aurora_rule_destroy(muon);
  aurora_rule_destroy(adamw);
  aurora_backend_destroy(backend);
  puts(failures == 0 ? "every function of aurora.h did what it says" : "aurora.h is broken");
  return failures == 0 ? 0 : 1;
}
