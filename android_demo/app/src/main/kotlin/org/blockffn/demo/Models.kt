package org.blockffn.demo

import android.content.Context
import android.content.Intent
import android.net.Uri
import android.provider.OpenableColumns
import org.blockffn.BlockFFN
import org.blockffn.Device
import org.blockffn.ModelFile
import org.json.JSONArray
import java.io.File
import java.io.FileNotFoundException
import java.io.IOException

/** A model that the user may choose. */
data class ModelEntry(
    val id: String,
    val title: String,
    val source: Source,
) {
    override fun toString() = title  // what a Spinner shows
}

/** Where a model's files are. */
sealed class Source {
    /** Uncompressed assets in one folder of the APK. */
    data class Assets(val folder: String, val program: String, val hasConfig: Boolean, val draft: String? = null) : Source()

    /** A folder that `adb push` filled. */
    data class Folder(val folder: File, val program: File) : Source()

    /** A program from the file picker; its tokenizer is the one of [tokenizer]. */
    data class Picked(val uri: Uri, val tokenizer: Assets) : Source()
}

/**
 * The list of models is data: `assets/models.json` names the bundled ones, and every folder with a .pte and a tokenizer.json
 * below Android/data/org.blockffn.demo/files/models, which `adb push` reaches, is one more, and so is a picked file, for as long as its
 * owner lets the app read it. All of it reads files: not for the main thread.
 */
class Models(private val context: Context, private val kept: Kept) {
    private val bundled: List<ModelEntry> by lazy { readBundled() }

    private fun readBundled(): List<ModelEntry> = try {
        val list = JSONArray(context.assets.open("models.json").use { it.readBytes().toString(Charsets.UTF_8) })
        List(list.length()) { i ->
            val model = list.getJSONObject(i)
            val folder = "models/" + model.getString("id")
            ModelEntry(
                model.getString("id"), model.getString("title"),
                Source.Assets(folder, model.getString("program"), model.optBoolean("tokenizer_config"), model.optString("draft").ifEmpty { null }),
            )
        }
    } catch (none: FileNotFoundException) {
        emptyList()
    }

    fun list(): List<ModelEntry> = bundled + pushed() + keptFiles()

    private fun pushed(): List<ModelEntry> {
        val folders = context.getExternalFilesDir("models")?.listFiles().orEmpty().filter { it.isDirectory }.sortedBy { it.name }
        return folders.mapNotNull { folder ->
            val program = folder.listFiles().orEmpty().filter { it.extension == "pte" && it.name != "draft.pte" }.minByOrNull { it.name }
            if (program == null || !File(folder, "tokenizer.json").exists()) return@mapNotNull null
            ModelEntry("pushed:${folder.name}", folder.name, Source.Folder(folder, program))
        }
    }

    private fun keptFiles(): List<ModelEntry> {
        val readable = context.contentResolver.persistedUriPermissions.filter { it.isReadPermission }.map { it.uri }
        val tokenizer = bundled.firstOrNull()?.source as? Source.Assets ?: return emptyList()
        return kept.picked.filter { it.key in readable }.map { (uri, title) -> ModelEntry("picked:$uri", title, Source.Picked(uri, tokenizer)) }
    }

    /** An entry for a file that the picker gave, which is kept where its owner allows that. */
    fun picked(uri: Uri): ModelEntry {
        val tokenizer = bundled.firstOrNull()?.source as? Source.Assets ?: throw IOException(context.getString(R.string.no_model))
        val name = context.contentResolver.query(uri, arrayOf(OpenableColumns.DISPLAY_NAME), null, null, null)?.use {
            if (it.moveToFirst()) it.getString(0) else null
        }
        val title = name ?: uri.lastPathSegment ?: uri.toString()
        try {
            context.contentResolver.takePersistableUriPermission(uri, Intent.FLAG_GRANT_READ_URI_PERMISSION)
            kept.picked += uri to title
        } catch (once: SecurityException) {
            // Its owner lends it to this process alone.
        }
        return ModelEntry("picked:$uri", title, Source.Picked(uri, tokenizer))
    }

    /** Opens a model; takes a while, so not on the main thread. */
    fun open(entry: ModelEntry, device: Device = Device.CPU): BlockFFN {
        val files = ArrayList<ModelFile?>()
        fun asset(source: Source.Assets, name: String?) = files.add(name?.let { ModelFile.asset(context, "${source.folder}/$it") })
        fun tokenizer(source: Source.Assets) {
            asset(source, "tokenizer.json")
            asset(source, if (source.hasConfig) "tokenizer_config.json" else null)
        }
        try {
            when (val source = entry.source) {
                is Source.Assets -> {
                    asset(source, source.program)
                    tokenizer(source)
                    asset(source, source.draft)
                }
                is Source.Folder -> {
                    files.add(ModelFile.of(source.program))
                    files.add(ModelFile.of(File(source.folder, "tokenizer.json")))
                    for (name in listOf("tokenizer_config.json", "draft.pte")) files.add(File(source.folder, name).takeIf { it.exists() }?.let { ModelFile.of(it) })
                }
                is Source.Picked -> {
                    files.add(ModelFile.of(context, source.uri))
                    tokenizer(source.tokenizer)
                    files.add(null)
                }
            }
            return BlockFFN.open(files[0]!!, files[1]!!, files[2], files[3], device = device, cache = context.codeCacheDir)
        } finally {
            files.forEach { it?.close() }  // mapped by now
        }
    }
}
