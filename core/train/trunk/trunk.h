/* Training of a net's layers on the CPU: forward and backward of a batch, but for the losses. */
#ifndef TRUNK_H
#define TRUNK_H

#include <stddef.h>
#include <stdint.h>

enum { CONV, DEPTHWISE, POOL };
enum { PLAIN, RELU, PRELU };

/* A convolution or a pooling, and what stands behind it: a batch norm, an activation. A layer that is
 * fully connected is a convolution as large as its input. */
typedef struct {
    int32_t op, input; /* input: the layer it reads, -1 the picture */
    int32_t kernel, stride, pad, dilate;
    int32_t channels, side; /* of its output */
    int32_t bias, norm, activation;
    int32_t output; /* its number, from 1, among those that the losses read; 0 for none */
} Layer;

/* Arrays of a layer, float32 as MXNet has them: weight (out, in, k, k) or (channels, 1, k, k). */
typedef struct {
    float *weight, *bias, *gamma, *beta, *slopes;
} Parameters;

typedef struct {
    float *mean, *variance; /* moving ones */
} States;

typedef struct Trunk Trunk;

typedef struct {
    int lanes;
    Trunk *(*make)(const Layer *layers, int count, int channels, int side, int batch, int threads,
                   float eps, float momentum);
    void (*free)(Trunk *trunk);
    /* data (batch, channels, side, side); outputs: arrays (batch, channels), behind the activation.
     * Training: batch norms go by the batch, and `states` follow it. */
    int (*forward)(Trunk *trunk, const float *data, const Parameters *parameters,
                   const States *states, float *const *outputs, int training);
    /* After a forward in training, with the same data. Gradients of outputs in, of parameters out; a
     * NULL among these is left out. */
    int (*backward)(Trunk *trunk, const float *data, const float *const *outputs,
                    const Parameters *gradients);
} Api;

const Api *trunk_api(int lanes);

#endif
