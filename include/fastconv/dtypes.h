// The dtypes of tensors as kernels see them.
#ifndef FASTCONV_DTYPES_H
#define FASTCONV_DTYPES_H

enum FcDtype { FC_FLOAT32, FC_INT64, FC_INT32, FC_UINT8, FC_INT8, FC_BOOL };

#endif
