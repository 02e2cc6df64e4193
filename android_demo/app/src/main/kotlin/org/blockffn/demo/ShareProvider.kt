package org.blockffn.demo

import android.content.ContentProvider
import android.content.ContentValues
import android.content.Context
import android.content.Intent
import android.database.Cursor
import android.database.MatrixCursor
import android.net.Uri
import android.os.ParcelFileDescriptor
import android.provider.OpenableColumns
import java.io.File
import java.io.FileNotFoundException

/** Lets the app that the user shares with read the files in cache/share, and nothing else. */
class ShareProvider : ContentProvider() {
    override fun onCreate() = true

    override fun getType(uri: Uri) = if (uri.lastPathSegment.orEmpty().endsWith(".png")) "image/png" else "application/json"

    override fun openFile(uri: Uri, mode: String): ParcelFileDescriptor {
        if (mode != "r") throw FileNotFoundException("$uri is there to be read")
        return ParcelFileDescriptor.open(file(uri), ParcelFileDescriptor.MODE_READ_ONLY)
    }

    override fun query(uri: Uri, columns: Array<String>?, where: String?, arguments: Array<String>?, order: String?): Cursor {
        val file = file(uri)
        val values = mapOf(OpenableColumns.DISPLAY_NAME to file.name, OpenableColumns.SIZE to file.length())
        val names = (columns ?: values.keys.toTypedArray()).filter { it in values }
        return MatrixCursor(names.toTypedArray()).apply { addRow(names.map { values[it] }) }
    }

    private fun file(uri: Uri): File {
        // Only the last segment counts, so no path leads out of the folder.
        val file = File(folder(context!!), uri.lastPathSegment.orEmpty())
        if (file.parentFile != folder(context!!) || !file.isFile) throw FileNotFoundException("$uri")
        return file
    }

    override fun insert(uri: Uri, values: ContentValues?): Uri? = null

    override fun delete(uri: Uri, where: String?, arguments: Array<String>?) = 0

    override fun update(uri: Uri, values: ContentValues?, where: String?, arguments: Array<String>?) = 0

    companion object {
        fun folder(context: Context) = File(context.cacheDir, "share")

        /** An intent that shares these files of [folder] with the app that the user chooses. */
        fun intent(files: List<File>): Intent {
            val uris = ArrayList(files.map { Uri.parse("content://org.blockffn.demo.share/${it.name}") })
            return Intent(Intent.ACTION_SEND_MULTIPLE).setType("*/*")
                .putParcelableArrayListExtra(Intent.EXTRA_STREAM, uris).addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)
        }
    }
}
