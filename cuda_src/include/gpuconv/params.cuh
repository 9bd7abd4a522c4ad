// What the host passes to kernels, by value. gpuconv/kernels/cuda/params.py lays out the same bytes; a test
// compares every offset.
#pragma once

#include <gpuconv/fast_divmod.cuh>

namespace gpuconv {

// Elements between neighbours along each axis; of the taps, `image` counts outputs.
struct Strides {
  long long image, group, channel, row, column;
};

// One spatial axis of a correlation. Its outputs fall into `classes`: output a, a + classes, a + 2 classes, …
// see the same subset of the taps. Only the gradient of a strided convolution has more than one.
struct Axis {
  int in_size;   // cells of the input
  int out_size;  // cells of the output
  int taps;      // taps of the filter
  int pad;       // zero cells before the first
  int classes;   // stride of the forward convolution, for dgrad; else 1
  int common;    // gcd of that stride and the dilation
  int period;    // classes / common: taps of one class lie this far apart
  int inverse;   // of dilation / common, modulo period
  int tap_step;  // dilation of the forward convolution, for dgrad
};

// out[n,g,k,i,j] = Σ in[n,g,c,·,·] taps[g,k,c,·,·], and what of it one block computes; see kernels/direct.cu.
struct DirectParams {
  const void* in;
  const void* taps;
  void* out;  // or partial sums, split by split
  const void* bias;
  const void* residual;
  Strides in_strides, taps_strides, out_strides;
  long long split_elements;  // of one split's partial sums
  Axis rows, columns;
  int images, groups, channels, filters;  // of the input; channels and filters of one group
  int chunks_r, chunks_s;                 // stages that the taps of one channel block are cut into
  int stages, stages_per_split;           // of the whole sum, and of one block's part
  int flush_rows;                         // rows of taps summed before they join the total
  FastDivmod tiles_q, tiles_p, blocks_k, blocks_g, classes_w, classes_h, blocks_n;
};

// Bytes that an operand moves on by from channel to channel and from tap to tap.
struct DepthSteps {
  long long channel, row, column;
};

// The same as a matrix product: rows are pixels of images, columns filters of a group; see
// kernels/implicit_gemm_simt.cu.
struct GemmParams {
  const void* in;
  const void* taps;
  void* out;  // or partial sums, split by split
  const void* bias;
  const void* residual;
  Strides in_strides, taps_strides, out_strides;
  DepthSteps in_steps, taps_steps;
  long long split_elements;  // of one split's partial sums
  Axis rows, columns;
  int stride_h, stride_w, dilation_h, dilation_w;  // input cells between outputs of a class, and between its taps
  int images, channels, filters;                   // of the input; channels and filters of one group
  int stages_per_split;
  int tiles_n, raster;     // blocks along the columns, and how many of them a band of the grid walks together
  FastDivmod tiles, band;  // blocks of one product, and of one band of columns
  FastDivmod groups, classes_w, classes_h;
};

// out[e] = Σ over splits of partial[split][e], then the epilogue.
struct SplitSumParams {
  const void* partial;
  void* out;
  const void* bias;
  const void* residual;
  int elements, splits;
  FastDivmod channel_stride, channels;  // channel of element e: e / channel_stride mod channels
};

// The gradient to an image from that to the padded one, see kernels/border_sum.cu.
struct BorderSumParams {
  const void* partial;
  void* out;
  const void* bias;
  const void* residual;
  long long split_elements, image, row;  // elements of one split, of one outer index and of a row, all with padding
  int height, width, top, bottom, left, right;
  int row_elements;  // of the result
  int splits;
  FastDivmod tiles, rows, inner, channels;  // blocks of a row, rows of an image, elements of a pixel, channels
};

// Results counted along several axes, see tile/count.cuh.
struct Count {
  int units;              // of the axes below `outer`
  int outer;              // the first axis that whole rounds of blocks count
  FastDivmod blocks;      // that make one round
  FastDivmod extents[6];  // of each axis, innermost first
};

// Patches of images, see kernels/unfold.cu: tap (r, s) of patch (i, j) lies on the cell in row
// i stride_h + r dilation_h - pad_h and column j stride_w + s dilation_w - pad_w.
struct UnfoldParams {
  const void* from;
  void* to;
  long long image, channel, row, column;                                             // elements between cells
  long long cols_image, cols_channel, tap_row, tap_column, patch_row, patch_column;  // and of the patches
  int height, width, rows, columns, taps_h, taps_w;  // cells of an image, patches of it, cells of a patch
  int pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w;
  Count count;
  FastDivmod step_h, step_w;  // the strides
};

// Sums over images and pixels, see kernels/bias_grad.cu. Row i is cell i mod cells of image i / cells; where channels
// are neighbours, a pixel counts as an image of one cell.
struct BiasGradParams {
  const void* from;
  void* to;
  long long image, channel;    // elements between neighbours; cells are neighbours
  long long rows, part_rows;   // of the sum, and of one part of it
  long long step, next_image;  // elements from a thread's row to its next, and what is to be added past an image's end
  int cells, step_cells;       // of an image, and of a step beyond whole images
  int channels;
  FastDivmod tiles;  // blocks of one part
};

// One axis of a padded image: its cell `at` shows cell at + shift of the image. Where that is more than an image and a
// constant around it, cells repeat each period, which may hold the mirror image too, and the shift is not negative.
struct PadAxis {
  int size, shift;
  FastDivmod period;
};

// Channels of an image as padded planes, see kernels/pad.cu.
struct PadParams {
  const void* from;
  void* to;
  long long row, column, channel;  // elements between cells
  long long plane_row, plane;      // of the result
  unsigned long long fill;         // an element's bits
  PadAxis rows, columns;
  int boundary;  // 0 fill, 1 wrap, 2 symm
  Count count;
};

}  // namespace gpuconv
