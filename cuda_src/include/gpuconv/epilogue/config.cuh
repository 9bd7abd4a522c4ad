// The definitions that every kernel with an epilogue is compiled under, each with a default.
#pragma once

#ifndef ELEMENT
#define ELEMENT f32
#endif
#ifndef BIAS
#define BIAS 0
#endif
#ifndef RESIDUAL
#define RESIDUAL 0
#endif
#ifndef RELU
#define RELU 0
#endif
