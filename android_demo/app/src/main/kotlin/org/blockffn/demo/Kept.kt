package org.blockffn.demo

import android.content.Context
import android.net.Uri
import org.blockffn.Device
import org.json.JSONObject

/** What outlives the process. Reads and writes a file, so not on the main thread. */
class Kept(context: Context) {
    private val file by lazy { context.getSharedPreferences("kept", Context.MODE_PRIVATE) }

    var device: Device
        get() = Device.entries.firstOrNull { it.name == file.getString(DEVICE, null) } ?: Device.CPU
        set(value) = file.edit().putString(DEVICE, value.name).apply()

    /**
     * True from before a model is opened for the GPU until its run has ended. Found true by a new process, the last one ended in
     * between: a driver that crashes takes the app with it. On the disk when the setter returns.
     */
    var gpuAtWork: Boolean
        get() = file.getBoolean(GPU_AT_WORK, false)
        set(value) {
            if (value != gpuAtWork) file.edit().putBoolean(GPU_AT_WORK, value).commit()
        }

    /** Files from the picker that the app may read again in another process, with their names. */
    var picked: Map<Uri, String>
        get() {
            val list = JSONObject(file.getString(PICKED, null) ?: "{}")
            return list.keys().asSequence().associate { Uri.parse(it) to list.getString(it) }
        }
        set(value) = file.edit().putString(PICKED, JSONObject(value.mapKeys { it.key.toString() }).toString()).apply()

    private companion object {
        const val PICKED = "picked"
        const val DEVICE = "device"
        const val GPU_AT_WORK = "gpu_at_work"
    }
}
