// bionic numbers what sysconf asks for differently. Only what is corrected here may be used.
#include_next <unistd.h>
#undef _SC_PAGESIZE
#undef _SC_PAGE_SIZE
#undef _SC_NPROCESSORS_CONF
#undef _SC_NPROCESSORS_ONLN
#undef _SC_PHYS_PAGES
#define _SC_PAGESIZE 39
#define _SC_PAGE_SIZE 40
#define _SC_NPROCESSORS_CONF 96
#define _SC_NPROCESSORS_ONLN 97
#define _SC_PHYS_PAGES 98
