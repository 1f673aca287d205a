// build: -Wno-unused-function -Wl,--forceinteg
/* The listener, whose Unload forgets to take its routines back. */
#define LEAVE
#include "../drivers/listener.c"
