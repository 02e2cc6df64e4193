/* The note by which Android's loader and tools know the API level of an ELF file. */
__attribute__((section(".note.android.ident"), aligned(4), used)) static const struct {
  int name_bytes, description_bytes, type;
  char name[8];
  int api;
  char ndk[64], ndk_build[64];
} android_note = {8, 132, 1, "Android", 26, "none", "zig"};
