// The definitions that kernels/direct.cu is compiled under, each with a default: a plain fprop.
#pragma once

#include <gpuconv/epilogue/config.cuh>
#include <gpuconv/tile/copy.cuh>

// The problem. Of the correlation, not of the forward convolution: wgrad swaps stride and dilation.
#ifndef STRIDE_H
#define STRIDE_H 1
#endif
#ifndef STRIDE_W
#define STRIDE_W 1
#endif
#ifndef DILATION_H
#define DILATION_H 1
#endif
#ifndef DILATION_W
#define DILATION_W 1
#endif
#ifndef CLASSES  // 1: dgrad, whose outputs fall into classes
#define CLASSES 0
#endif
#ifndef BORDER  // what lies around the input, see tile/border.cuh
#define BORDER kZeros
#endif
#ifndef GUARD_TAPS  // 1: some stage or class has fewer taps than TAPS_R × TAPS_S
#define GUARD_TAPS 0
#endif
#ifndef LONG_SUM  // 1: sums of two levels
#define LONG_SUM 0
#endif
#ifndef FLUSH_ROWS  // rows of taps of a first-level sum; TAPS_R where that is one or several whole channels
#define FLUSH_ROWS TAPS_R
#endif

// Memory. Axes are those of tile/copy.cuh; a vector of 1 is always right, longer ones are used where addresses allow.
#ifndef INTERLEAVED
#define INTERLEAVED 0
#endif
#ifndef IN_UNIT
#define IN_UNIT kColumn
#endif
#ifndef IN_VECTOR
#define IN_VECTOR 1
#endif
#ifndef LEAD  // columns before the first needed one, so that loads start at a multiple of IN_VECTOR
#define LEAD 0
#endif
#ifndef TAPS_UNIT
#define TAPS_UNIT kColumn
#endif
#ifndef TAPS_VECTOR
#define TAPS_VECTOR 1
#endif
#ifndef OUT_UNIT  // kColumn or kLane (outputs), whichever are neighbours in memory; kRow: neither
#define OUT_UNIT kColumn
#endif

// The config.
#ifndef BLOCK_P
#define BLOCK_P 8
#endif
#ifndef BLOCK_Q
#define BLOCK_Q 32
#endif
#ifndef BLOCK_K
#define BLOCK_K 16
#endif
#ifndef BLOCK_C
#define BLOCK_C 4
#endif
#ifndef BLOCK_N
#define BLOCK_N 1
#endif
#ifndef BLOCK_G
#define BLOCK_G 1
#endif
#ifndef THREAD_P
#define THREAD_P 2
#endif
#ifndef THREAD_Q
#define THREAD_Q 4
#endif
#ifndef THREAD_K
#define THREAD_K 4
#endif
#ifndef TAPS_R
#define TAPS_R 3
#endif
#ifndef TAPS_S
#define TAPS_S 3
#endif
#ifndef K_FIRST  // 1: neighbouring threads hold neighbouring outputs and groups; 0: neighbouring columns
#define K_FIRST 0
#endif
#ifndef STAGES  // 1: load, wait, compute; more: cp.async runs that many stages ahead, less one
#define STAGES 1
#endif
#ifndef SPLITS  // more than 1: the sum is cut into as many parts, each in blocks of its own
#define SPLITS 1
#endif
#ifndef PARTIAL  // 1: sums go to a workspace as they are; split_sum.cu or border_sum.cu adds and finishes them
#define PARTIAL 0
#endif
