// build: -Wno-unused-function
/* The listener, whose Unload forgets to take its routine back. */
#define LEAVE
#include "../drivers/listener.c"
