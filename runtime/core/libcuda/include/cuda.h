// The driver API as far as the stand-in libcuda has it, for machines without the CUDA toolkit: build a host program with
// -I runtime/core/libcuda/include, or with NVIDIA's own cuda.h, which declares the same. With
// CUDA_API_PER_THREAD_DEFAULT_STREAM the null stream is the calling thread's.
#pragma once
#include "../types.h"

#define CUDA_VERSION 12080
#define CU_STREAM_LEGACY ((CUstream)0x1)
#define CU_STREAM_PER_THREAD ((CUstream)0x2)
#define CU_LAUNCH_PARAM_END ((void*)0)
#define CU_LAUNCH_PARAM_BUFFER_POINTER ((void*)1)
#define CU_LAUNCH_PARAM_BUFFER_SIZE ((void*)2)
#define CU_MEMHOSTALLOC_PORTABLE 1
#define CU_MEMHOSTALLOC_DEVICEMAP 2
#define CU_MEM_ATTACH_GLOBAL 1

#include "../functions.h"
#ifdef CUDA_API_PER_THREAD_DEFAULT_STREAM
#define DSVC_PTDS(name) name##_ptds
#define DSVC_PTSZ(name) name##_ptsz
#else
#define DSVC_PTDS(name) name
#define DSVC_PTSZ(name) name
#endif

// The newest form of each function under its plain name.
#define cuDeviceGetUuid cuDeviceGetUuid_v2
#define cuDeviceTotalMem cuDeviceTotalMem_v2
#define cuDevicePrimaryCtxRelease cuDevicePrimaryCtxRelease_v2
#define cuDevicePrimaryCtxReset cuDevicePrimaryCtxReset_v2
#define cuDevicePrimaryCtxSetFlags cuDevicePrimaryCtxSetFlags_v2
#define cuCtxCreate cuCtxCreate_v2
#define cuCtxDestroy cuCtxDestroy_v2
#define cuCtxPushCurrent cuCtxPushCurrent_v2
#define cuCtxPopCurrent cuCtxPopCurrent_v2
#define cuModuleGetGlobal cuModuleGetGlobal_v2
#define cuMemGetInfo cuMemGetInfo_v2
#define cuMemAlloc cuMemAlloc_v2
#define cuMemAllocPitch cuMemAllocPitch_v2
#define cuMemFree cuMemFree_v2
#define cuMemAllocHost cuMemAllocHost_v2
#define cuMemHostRegister cuMemHostRegister_v2
#define cuMemHostGetDevicePointer cuMemHostGetDevicePointer_v2
#define cuMemGetAddressRange cuMemGetAddressRange_v2
#define cuMemAdvise cuMemAdvise_v2
#define cuMemPrefetchAsync DSVC_PTSZ(cuMemPrefetchAsync_v2)
#define cuMemcpyHtoD DSVC_PTDS(cuMemcpyHtoD_v2)
#define cuMemcpyDtoH DSVC_PTDS(cuMemcpyDtoH_v2)
#define cuMemcpyDtoD DSVC_PTDS(cuMemcpyDtoD_v2)
#define cuMemcpyHtoDAsync DSVC_PTSZ(cuMemcpyHtoDAsync_v2)
#define cuMemcpyDtoHAsync DSVC_PTSZ(cuMemcpyDtoHAsync_v2)
#define cuMemcpyDtoDAsync DSVC_PTSZ(cuMemcpyDtoDAsync_v2)
#define cuMemcpy2D DSVC_PTDS(cuMemcpy2D_v2)
#define cuMemcpy2DUnaligned DSVC_PTDS(cuMemcpy2DUnaligned_v2)
#define cuMemcpy2DAsync DSVC_PTSZ(cuMemcpy2DAsync_v2)
#define cuMemsetD8 DSVC_PTDS(cuMemsetD8_v2)
#define cuMemsetD16 DSVC_PTDS(cuMemsetD16_v2)
#define cuMemsetD32 DSVC_PTDS(cuMemsetD32_v2)
#define cuMemsetD2D8 DSVC_PTDS(cuMemsetD2D8_v2)
#define cuMemsetD2D16 DSVC_PTDS(cuMemsetD2D16_v2)
#define cuMemsetD2D32 DSVC_PTDS(cuMemsetD2D32_v2)
#define cuStreamDestroy cuStreamDestroy_v2
#define cuStreamWriteValue32 DSVC_PTSZ(cuStreamWriteValue32_v2)
#define cuStreamWriteValue64 DSVC_PTSZ(cuStreamWriteValue64_v2)
#define cuStreamWaitValue32 DSVC_PTSZ(cuStreamWaitValue32_v2)
#define cuStreamWaitValue64 DSVC_PTSZ(cuStreamWaitValue64_v2)
#define cuEventDestroy cuEventDestroy_v2
#define cuEventElapsedTime cuEventElapsedTime_v2
#define cuGetProcAddress cuGetProcAddress_v2
#ifdef CUDA_API_PER_THREAD_DEFAULT_STREAM
#define cuMemcpy cuMemcpy_ptds
#define cuMemcpyPeer cuMemcpyPeer_ptds
#define cuMemcpyAsync cuMemcpyAsync_ptsz
#define cuMemcpyPeerAsync cuMemcpyPeerAsync_ptsz
#define cuMemsetD8Async cuMemsetD8Async_ptsz
#define cuMemsetD16Async cuMemsetD16Async_ptsz
#define cuMemsetD32Async cuMemsetD32Async_ptsz
#define cuMemAllocAsync cuMemAllocAsync_ptsz
#define cuMemFreeAsync cuMemFreeAsync_ptsz
#define cuStreamSynchronize cuStreamSynchronize_ptsz
#define cuStreamQuery cuStreamQuery_ptsz
#define cuStreamWaitEvent cuStreamWaitEvent_ptsz
#define cuStreamGetPriority cuStreamGetPriority_ptsz
#define cuStreamGetFlags cuStreamGetFlags_ptsz
#define cuStreamGetId cuStreamGetId_ptsz
#define cuStreamGetCtx cuStreamGetCtx_ptsz
#define cuStreamIsCapturing cuStreamIsCapturing_ptsz
#define cuStreamAddCallback cuStreamAddCallback_ptsz
#define cuEventRecord cuEventRecord_ptsz
#define cuEventRecordWithFlags cuEventRecordWithFlags_ptsz
#define cuLaunchKernel cuLaunchKernel_ptsz
#define cuLaunchKernelEx cuLaunchKernelEx_ptsz
#define cuLaunchCooperativeKernel cuLaunchCooperativeKernel_ptsz
#define cuLaunchHostFunc cuLaunchHostFunc_ptsz
#endif
