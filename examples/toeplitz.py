"""Cross-correlation as a product with a doubly blocked Toeplitz matrix, and what its transpose is."""

import numpy as np

import gpuconv

height, width = 3, 4
kernel = np.array([[1, 2], [3, 4]], "float64")
rows, columns = height - kernel.shape[0] + 1, width - kernel.shape[1] + 1

# column j of the matrix is what the library makes of an image that is 1 at cell j and 0 elsewhere
cells = np.eye(height * width).reshape(-1, 1, height, width)
matrix = gpuconv.conv2d(cells, kernel[None, None]).reshape(height * width, rows * columns).T
print(f"{rows}x{columns} outputs of {height}x{width} cells:")
print(matrix.astype(int))

for i in range(rows):  # block (i, j) of it holds kernel row j - i, along its diagonals
    for j in range(height):
        block = matrix[i * columns : (i + 1) * columns, j * width : (j + 1) * width]
        line = kernel[j - i] if 0 <= j - i < len(kernel) else [0, 0]
        toeplitz = sum(value * np.eye(columns, width, step) for step, value in enumerate(line))
        assert (block == toeplitz).all()
print("Each block is Toeplitz, and the blocks are: doubly blocked.")

x = np.arange(1.0, 13).reshape(1, 1, height, width)
y = gpuconv.conv2d(x, kernel[None, None])
assert (matrix @ x.ravel() == y.ravel()).all()
print("matrix @ image =", (matrix @ x.ravel()).astype(int), "= conv2d(image, kernel)")

back = gpuconv.conv2d_input_grad(x.shape, kernel[None, None], y)
assert (matrix.T @ y.ravel() == back.ravel()).all()
assert (gpuconv.conv_transpose2d(y, kernel[None, None]) == back).all()
print("Its transpose is the gradient to the image, and the transposed convolution.")
