// The dtypes of tensors as kernels see them.
#ifndef FASTCONV_DTYPES_H
#define FASTCONV_DTYPES_H

enum FcDtype { FC_F32, FC_I64, FC_I32, FC_U8, FC_I8, FC_BOOL };

#endif
