// Trains a network in plain C: from 12 bytes of a text it learns to tell the next one. The matrices of its
// hidden layers are stepped by Aurora, embedding, output layer and biases by AdamW; gradients by hand.
//   02_train_in_c [TEXT [RULE]]   TEXT: any file, else this one; RULE: "aurora", "muon:polar=cans-12", ...
#include <aurora/aurora.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kContext = 12, kWidth = 16, kInputs = kContext * kWidth, kHidden = 256, kOut = 128, kBytes = 256 };
enum { kBatch = 32, kSteps = 240, kWarmup = 10 };

// Parameters, all [out, in]. The first kMatrices go to Aurora.
enum { kW1, kW2, kMatrices, kEmbedding = kMatrices, kHead, kB1, kB2, kB3, kParameters };
static const int kShape[kParameters][2] = {{kHidden, kInputs}, {kOut, kHidden}, {kBytes, kWidth},
                                           {kBytes, kOut},     {1, kHidden},    {1, kOut},
                                           {1, kBytes}};
static float *weight[kParameters], *gradient[kParameters];

static void* zeros(size_t count) {
  float* memory = calloc(count, sizeof(float));
  if (memory == NULL) exit(puts("no memory"));
  return memory;
}

static void require(aurora_status status) {
  if (status == AURORA_OK) return;
  fprintf(stderr, "%s\n", aurora_last_error());
  exit(1);
}

static unsigned random_bits(void) {  // xorshift
  static unsigned state = 2463534242U;
  state ^= state << 13, state ^= state >> 17, state ^= state << 5;
  return state;
}

// y = W x + b for each of the batch: x is [batch, in], y [batch, out].
static void forward(int w, int b, const float* x, float* y) {
  const int out = kShape[w][0], in = kShape[w][1];
  for (int n = 0; n < kBatch; ++n) {
    for (int i = 0; i < out; ++i) {
      float sum[8] = {weight[b][i]};
      for (int j = 0; j < in; j += 8) {
        for (int k = 0; k < 8; ++k) sum[k] += weight[w][i * in + j + k] * x[n * in + j + k];
      }
      y[n * out + i] = sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
    }
  }
}

// dW += dy x', db += dy, dx = W' dy.
static void backward(int w, int b, const float* x, const float* dy, float* dx) {
  const int out = kShape[w][0], in = kShape[w][1];
  memset(dx, 0, sizeof(float) * (size_t)(kBatch * in));
  for (int n = 0; n < kBatch; ++n) {
    for (int i = 0; i < out; ++i) {
      const float d = dy[n * out + i];
      gradient[b][i] += d;
      for (int j = 0; j < in; ++j) {
        gradient[w][i * in + j] += d * x[n * in + j];
        dx[n * in + j] += d * weight[w][i * in + j];
      }
    }
  }
}

// The mean loss, in nats per byte, of the batch at these places; adds its gradients where asked.
static double loss_of(const unsigned char* text, const size_t* places, int with_gradients) {
  static float x[kBatch * kInputs], h[kBatch * kHidden], o[kBatch * kOut], p[kBatch * kBytes],
      dp[kBatch * kBytes], dx[kBatch * kInputs], dh[kBatch * kHidden], dout[kBatch * kOut];
  for (int n = 0; n < kBatch; ++n) {
    for (int c = 0; c < kContext; ++c) {
      memcpy(x + n * kInputs + c * kWidth, weight[kEmbedding] + text[places[n] + (size_t)c] * kWidth,
             sizeof(float) * kWidth);
    }
  }
  forward(kW1, kB1, x, h);
  for (int i = 0; i < kBatch * kHidden; ++i) h[i] = h[i] > 0 ? h[i] : 0;
  forward(kW2, kB2, h, o);
  for (int i = 0; i < kBatch * kOut; ++i) o[i] = o[i] > 0 ? o[i] : 0;
  forward(kHead, kB3, o, p);
  double loss = 0;
  for (int n = 0; n < kBatch; ++n) {
    float *row = p + n * kBytes, largest = row[0], sum = 0;
    const int target = text[places[n] + kContext];
    for (int i = 1; i < kBytes; ++i) largest = row[i] > largest ? row[i] : largest;
    for (int i = 0; i < kBytes; ++i) sum += row[i] = expf(row[i] - largest);
    loss -= log(row[target] / sum) / kBatch;
    for (int i = 0; i < kBytes; ++i) dp[n * kBytes + i] = (row[i] / sum - (i == target ? 1 : 0)) / kBatch;
  }
  if (!with_gradients) return loss;
  backward(kHead, kB3, o, dp, dout);
  for (int i = 0; i < kBatch * kOut; ++i) dout[i] = o[i] > 0 ? dout[i] : 0;
  backward(kW2, kB2, h, dout, dh);
  for (int i = 0; i < kBatch * kHidden; ++i) dh[i] = h[i] > 0 ? dh[i] : 0;
  backward(kW1, kB1, x, dh, dx);
  for (int n = 0; n < kBatch; ++n) {
    for (int j = 0; j < kInputs; ++j) {
      gradient[kEmbedding][text[places[n] + (size_t)(j / kWidth)] * kWidth + j % kWidth] +=
          dx[n * kInputs + j];
    }
  }
  return loss;
}

// The mean loss over `count` places, evenly spaced from `begin` on.
static double evaluation(const unsigned char* text, size_t begin, size_t count) {
  double sum = 0;
  size_t places[kBatch];
  for (int batch = 0; batch < 16; ++batch) {
    for (int n = 0; n < kBatch; ++n) places[n] = begin + (size_t)(batch * kBatch + n) * count / (16 * kBatch);
    sum += loss_of(text, places, 0) / 16;
  }
  return sum;
}

int main(int argc, char** argv) {
  static unsigned char text[1 << 22];
  const char* path = argc > 1 ? argv[1] : __FILE__;
  FILE* file = fopen(path, "rb");
  const size_t size = file == NULL ? 0 : fread(text, 1, sizeof text, file);
  if (file != NULL) fclose(file);
  if (size < 4096) {
    fprintf(stderr, "%s cannot be read, or has fewer than 4096 bytes\n", path);
    return 2;
  }
  const size_t training = size / 10 * 9 - kContext;  // places; the last tenth is for evaluation
  double entropy = 0,
         counts[kBytes] = {0};  // of single bytes: what can be had without looking at the context
  for (size_t i = 0; i < size; ++i) counts[text[i]] += 1.0 / (double)size;
  for (int i = 0; i < kBytes; ++i) entropy -= counts[i] > 0 ? counts[i] * log(counts[i]) : 0;

  aurora_backend* backend = NULL;
  aurora_rule *matrix_rule = NULL, *adamw = NULL;
  require(aurora_backend_create_cpu(1, &backend));
  require(aurora_rule_create(argc > 2 ? argv[2] : "aurora", &matrix_rule));
  require(aurora_rule_create("adamw", &adamw));
  printf("%s\n", aurora_backend_description(backend));

  aurora_matrix w[kParameters], g[kParameters], m[kParameters], v[kParameters], r[kMatrices];
  for (int k = 0; k < kParameters; ++k) {
    const int rows = kShape[k][0], cols = kShape[k][1];
    const size_t count = (size_t)(rows * cols);
    w[k] = aurora_row_major(weight[k] = zeros(count), rows, cols, AURORA_FLOAT32);
    g[k] = aurora_row_major(gradient[k] = zeros(count), rows, cols, AURORA_FLOAT32);
    m[k] = aurora_row_major(zeros(count), rows, cols, AURORA_FLOAT32);  // momentum, of AdamW exp_avg
    if (k >= kMatrices) v[k] = aurora_row_major(zeros(count), rows, cols, AURORA_FLOAT32);
    const float width = k == kEmbedding ? 1.0F : 1.0F / sqrtf((float)cols);  // biases start at zero
    for (size_t i = 0; rows > 1 && i < count; ++i)
      weight[k][i] = width * ((float)random_bits() / 2147483648.0F - 1);
  }
  const int remembers = aurora_rule_row_state_size(matrix_rule, 2, 2) > 0;  // normuon does, aurora does not
  for (int k = 0; remembers && k < kMatrices; ++k) {
    const int64_t length = aurora_rule_row_state_size(matrix_rule, w[k].rows, w[k].cols);
    r[k] = aurora_row_major(zeros((size_t)length), length, 1, AURORA_FLOAT32);
  }

  const double before = evaluation(text, training + kContext, size - training - 2 * kContext);
  for (int step = 1; step <= kSteps; ++step) {
    size_t places[kBatch];
    for (int n = 0; n < kBatch; ++n) places[n] = random_bits() % training;
    for (int k = 0; k < kParameters; ++k)
      memset(gradient[k], 0, sizeof(float) * (size_t)(w[k].rows * w[k].cols));
    const double loss = loss_of(text, places, 1);
    if (step % 40 == 0) printf("step %3d: %.3f nats per byte\n", step, loss);
    // A warm-up, then down to zero over the last half.
    const double rise = step < kWarmup ? (double)step / kWarmup : 1, fall = 2.0 * (kSteps - step) / kSteps;
    require(aurora_rule_set(matrix_rule, "lr", 0.02 * fmin(rise, fmin(1, fall))));
    require(aurora_rule_set(adamw, "lr", 3e-3 * fmin(rise, fmin(1, fall))));
    require(aurora_step(backend, matrix_rule, kMatrices, g, m, remembers ? r : NULL, w));
    require(aurora_adamw_step(backend, adamw, step, kParameters - kMatrices, g + kMatrices, m + kMatrices,
                              v + kMatrices, w + kMatrices));
  }
  const double after = evaluation(text, training + kContext, size - training - 2 * kContext);
  printf("unseen text: %.3f -> %.3f nats per byte; by the frequencies of bytes alone %.3f\n", before, after,
         entropy);
  for (int k = 0; k < kParameters; ++k) {
    free(weight[k]), free(gradient[k]), free(m[k].data);
    if (k >= kMatrices) free(v[k].data);
    if (k < kMatrices && remembers) free(r[k].data);
  }
  aurora_rule_destroy(matrix_rule);
  aurora_rule_destroy(adamw);
  aurora_backend_destroy(backend);
  return after < entropy ? 0 : 1;
}
