package org.blockffn

import android.content.Context
import android.net.Uri
import android.os.ParcelFileDescriptor
import java.io.Closeable
import java.io.File
import java.io.IOException

/**
 * A file that the native side maps in place: by its path, or as a range of an open descriptor (an uncompressed asset of
 * the APK, or what the system's file picker hands over). Nothing is copied. Close it once the model is open.
 */
class ModelFile private constructor(
    internal val path: ByteArray?,
    private val descriptor: ParcelFileDescriptor?,
    internal val offset: Long,
    internal val bytes: Long,
) : Closeable {
    internal val fd: Int get() = descriptor?.fd ?: -1

    override fun close() {
        descriptor?.close()
    }

    companion object {
        fun of(file: File) = ModelFile(file.path.toByteArray(Charsets.UTF_8), null, 0, 0)

        /** The whole of an open file, which the result then owns. */
        fun of(descriptor: ParcelFileDescriptor) = ModelFile(null, descriptor, 0, 0)

        /** @throws IOException where it is no regular file, for example one in a cloud */
        fun of(context: Context, uri: Uri): ModelFile {
            val descriptor = context.contentResolver.openFileDescriptor(uri, "r") ?: throw IOException("$uri cannot be opened")
            if (descriptor.statSize < 0) {
                descriptor.close()
                throw IOException("This file is not on the device. Download it first, then pick the copy.")
            }
            return of(descriptor)
        }

        /** @throws IOException where there is no such asset, or the APK holds it compressed */
        fun asset(context: Context, name: String): ModelFile {
            val asset = context.assets.openFd(name)
            return ModelFile(null, asset.parcelFileDescriptor, asset.startOffset, asset.length)
        }
    }
}
