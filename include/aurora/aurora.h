/* The C interface of Aurora: optimizers for the weight matrices of neural networks, for C11 and everything
 * that calls C. Link libaurora (pkg-config aurora, or find_package(aurora)). docs/c.md has a step in fifteen
 * lines, examples/02_train_in_c.c a whole trainer.
 *
 * Every matrix belongs to the caller; the library keeps scratch memory alone. A backend serves one thread at
 * a time; a rule may be read by many threads while none sets it. No call allocates after the first of its
 * kind, but those that fail. NULL where something is needed is AURORA_INVALID. */
#ifndef AURORA_AURORA_H
#define AURORA_AURORA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Grows with every change after which a program must be compiled again; aurora_abi_version says what was
 * linked. */
#define AURORA_ABI_VERSION 1
int aurora_abi_version(void);

typedef enum {
  AURORA_OK = 0,
  AURORA_NOT_FINITE = 1, /* a gradient had an Inf or NaN: nothing was written */
  AURORA_INVALID = 2,    /* a wrong argument: nothing was written */
  AURORA_FAILED = 3      /* no memory, another thread on this backend, LAPACK that does not converge */
} aurora_status;

/* What the last call of this thread that gives a status or a size found, "" after AURORA_OK. Valid until
 * the thread's next call; never NULL. */
const char* aurora_last_error(void);

/* bfloat16: the upper 16 bits of a float. */
typedef enum { AURORA_FLOAT32 = 0, AURORA_FLOAT64 = 1, AURORA_BFLOAT16 = 2 } aurora_dtype;

/* Element (i, j) lies i * row_stride + j * col_stride elements after `data`. One stride is 1 and the other
 * at least as long as a row or column. Weights are [out, in]: rows are neurons. */
typedef struct {
  void* data;
  int64_t rows, cols, row_stride, col_stride;
  aurora_dtype dtype;
} aurora_matrix;

/* A packed matrix, row after row: what C arrays and PyTorch have. */
static inline aurora_matrix aurora_row_major(void* data, int64_t rows, int64_t cols, aurora_dtype dtype) {
  aurora_matrix matrix = {data, rows, cols, cols, 1, dtype};
  return matrix;
}

/* Where it is computed. */
typedef struct aurora_backend aurora_backend;

/* BLAS and LAPACK on `threads` threads of the CPU, 1 to 4096; they share the matrices of a call, and each
 * matrix gets the same bits whatever their number. *backend is written on AURORA_OK alone. */
aurora_status aurora_backend_create_cpu(int threads, aurora_backend** backend);
/* A GPU; `stream` is a CUstream or cudaStream_t, NULL the default one. AURORA_INVALID, with the reason,
 * where the library was built without CUDA. */
aurora_status aurora_backend_create_cuda(int device, void* stream, aurora_backend** backend);
void aurora_backend_destroy(aurora_backend* backend); /* NULL is allowed */
/* For people: device, BLAS, kernels, threads. Lives as long as the backend; "" for NULL. */
const char* aurora_backend_description(const aurora_backend* backend);
/* How many calls of aurora_step and aurora_adamw_step changed nothing because a gradient was not finite.
 * Waits for the device. */
aurora_status aurora_backend_skipped_steps(aurora_backend* backend, int64_t* count);

/* How a gradient becomes an update: an optimizer and its hyperparameters, no state. */
typedef struct aurora_rule aurora_rule;

/* `variant` is NAME or NAME:KEY=VALUE+KEY=VALUE: "aurora", "aurora:lr=0.02+pp_iterations=3",
 * "muon:polar=keller-jordan-5", "adamw:betas=0.9,0.95". An unknown name or key is AURORA_INVALID, and the
 * error lists those that exist. *rule is written on AURORA_OK alone. */
aurora_status aurora_rule_create(const char* variant, aurora_rule** rule);
/* Sets a hyperparameter that is a number: lr from a schedule, each step. Whatever is refused leaves the
 * rule as it was. Not while a step reads the rule. */
aurora_status aurora_rule_set(aurora_rule* rule, const char* name, double value);
void aurora_rule_destroy(aurora_rule* rule); /* NULL is allowed */
/* Length of the vector that the rule remembers for a rows x cols weight beside its momentum: rows for
 * normuon, the longer side for aurora:balance=carried, 0 where there is none; -1 for arguments that are
 * none. */
int64_t aurora_rule_row_state_size(const aurora_rule* rule, int64_t rows, int64_t cols);

/* One step of a matrix rule for `count` weights W of any shapes. U is the rule's direction, a matrix near B
 * with U'U = I (U U' = I where wide), and s its update scale for an m x n weight, by default
 * sqrt(max(1, m/n)):
 *   M <- mu M + (1 - mu) G;   B = mu M + (1 - mu) G with Nesterov, else M;
 *   W <- (1 - lr weight_decay) W - lr s U.
 *
 * gradients         G: as large as the weights, any dtype; only read
 * momentum_buffers  M: as large, float32 or float64, zero before the first step
 * row_states        one aurora_rule_row_state_size x 1 for each weight, float32 (float64 for float64
 *                   weights), zero before the first step; NULL where the rule has none
 * weights           W: at least 2 x 2, any dtype
 *
 * All gradients are looked at before anything is written. No two of the matrices may share memory. Arrays may
 * be NULL where count is 0. AURORA_FAILED is the one status after which some of the weights may have been
 * stepped. On CUDA all is queued on the stream and AURORA_OK says so; with a gradient that is not finite the
 * step then changes nothing. */
aurora_status aurora_step(aurora_backend* backend, const aurora_rule* rule, size_t count,
                          const aurora_matrix* gradients, const aurora_matrix* momentum_buffers,
                          const aurora_matrix* row_states, const aurora_matrix* weights);

/* Step number t = `step` (1 at the first) of AdamW, the rule "adamw", for parameters of any shape; a vector
 * is 1 x n. Element by element:
 *   m <- b1 m + (1 - b1) g;   v <- b2 v + (1 - b2) g^2;
 *   w <- (1 - lr weight_decay) w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
 * exp_avgs (m) and exp_avg_sqs (v) are float32 or float64, both the same, zero before the first step. All
 * else is as aurora_step says. */
aurora_status aurora_adamw_step(aurora_backend* backend, const aurora_rule* rule, int64_t step, size_t count,
                                const aurora_matrix* gradients, const aurora_matrix* exp_avgs,
                                const aurora_matrix* exp_avg_sqs, const aurora_matrix* weights);

/* directions <- U of each gradient alone: no momentum, no scale, a row state of zeros. Gradient and
 * direction are both float32 or both float64. */
aurora_status aurora_direction(aurora_backend* backend, const aurora_rule* rule, size_t count,
                               const aurora_matrix* gradients, const aurora_matrix* directions);

#ifdef __cplusplus
}
#endif

#endif /* AURORA_AURORA_H */
