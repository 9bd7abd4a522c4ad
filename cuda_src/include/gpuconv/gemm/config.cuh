// The definitions that kernels/implicit_gemm_simt.cu is compiled under, each with a default: a plain fprop, NHWC.
#pragma once

#include <gpuconv/epilogue/config.cuh>

// The problem and its memory.
#ifndef CLASSES  // 1: dgrad, whose outputs fall into classes
#define CLASSES 0
#endif
#ifndef IMAGES_FIRST  // 1: rows of the product count images, then pixels; 0: pixels, then images
#define IMAGES_FIRST 0
#endif
#ifndef CHANNELS_FIRST  // 1: the depth counts channels, then taps; 0: taps, then channels
#define CHANNELS_FIRST 1
#endif
#ifndef IN_ALONG_DEPTH  // 1: neighbours in memory lie along the depth; 0: along the rows of the product
#define IN_ALONG_DEPTH 1
#endif
#ifndef IN_VECTOR  // elements of a load where the array is aligned
#define IN_VECTOR 4
#endif
#ifndef TAPS_ALONG_DEPTH  // 1: along the depth; 0: along the columns of the product
#define TAPS_ALONG_DEPTH 0
#endif
#ifndef TAPS_VECTOR
#define TAPS_VECTOR 4
#endif
#ifndef OUT_ALONG_N  // 1: neighbours in memory lie along the columns of the product; 0: along its rows, if at all
#define OUT_ALONG_N 1
#endif

// The config.
#ifndef BLOCK_M
#define BLOCK_M 128
#endif
#ifndef BLOCK_N
#define BLOCK_N 128
#endif
#ifndef BLOCK_K
#define BLOCK_K 32
#endif
#ifndef WARP_M
#define WARP_M 32
#endif
#ifndef WARP_N
#define WARP_N 64
#endif
#ifndef THREAD_M
#define THREAD_M 8
#endif
#ifndef THREAD_N
#define THREAD_N 8
#endif
#ifndef SPLIT  // 1: sums are cut into parts, each in blocks of its own; split_sum.cu adds them
#define SPLIT 0
#endif
