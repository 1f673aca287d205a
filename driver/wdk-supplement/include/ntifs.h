/* The first header that wdk-sys gives to bindgen, standing in for the WDK's own ntifs.h.
 *
 * bindgen parses with clang's MSVC personality, which turns mingw-w64's DDK headers onto code paths nobody compiles: several
 * of their layout assertions then fail. They are written for GCC on Windows, so that is what is announced before they are read.
 * Only the preprocessor's idea of the compiler changes: the target stays x86_64-pc-windows-msvc, and with it every layout rule. */
#pragma once

#undef _MSC_VER
#undef _MSC_FULL_VER
#undef _MSC_BUILD
#undef _MSC_EXTENSIONS
#define __GNUC__ 4
#define __GNUC_MINOR__ 2
#define __MINGW32__ 1
#define __MINGW64__ 1
#define __declspec(attribute) __attribute__((attribute))

/* x64 aligns both to MEMORY_ALLOCATION_ALIGNMENT. mingw-w64 leaves that out, which would misplace every field of a structure
 * that holds one by value; an attribute on an earlier declaration holds for the definition that follows. */
struct __attribute__((aligned(16))) _DEVICE_OBJECT;
struct __attribute__((aligned(16))) _IRP;

#include <ddk/ntifs.h>

/* Windows 10 2004 and later; wdk-sys refers to it. */
typedef ULONG64 POOL_FLAGS;
PVOID NTAPI ExAllocatePool2(POOL_FLAGS flags, SIZE_T bytes, ULONG tag);

/* Windows 10 and later. */
PVOID NTAPI MmMapIoSpaceEx(PHYSICAL_ADDRESS start, SIZE_T bytes, ULONG protect);
