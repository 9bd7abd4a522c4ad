// The definitions that kernels/implicit_gemm_sm80.cu is compiled under, each with a default; more are in
// gemm/config.cuh.
#pragma once

// The problem and its memory.
#ifndef ELEMENT
#define ELEMENT f16
#endif
#ifndef IN_VECTOR  // elements of a copy where the array is aligned
#define IN_VECTOR 8
#endif
#ifndef TAPS_VECTOR
#define TAPS_VECTOR 8
#endif
#ifndef INSIDE  // 1: no tap of any result lies outside the input
#define INSIDE 0
#endif

// The config.
#ifndef BLOCK_K
#define BLOCK_K 32
#endif
#ifndef WARP_M
#define WARP_M 64
#endif
#ifndef WARP_N
#define WARP_N 64
#endif
#ifndef STAGES  // that shared memory holds
#define STAGES 4
#endif
#ifndef CHAIN  // products of 16 places that tensor cores add up before they join the total
#define CHAIN 2
#endif

#include <gpuconv/gemm/config.cuh>
