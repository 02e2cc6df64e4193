package org.blockffn.demo

import android.content.Context
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
 * below Android/data/org.blockffn.demo/files/models, which `adb push` reaches, is one more.
 */
class Models(private val context: Context) {
    private val bundled: List<ModelEntry> = try {
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

    fun list(): List<ModelEntry> = bundled + pushed()

    private fun pushed(): List<ModelEntry> {
        val folders = context.getExternalFilesDir("models")?.listFiles().orEmpty().filter { it.isDirectory }.sortedBy { it.name }
        return folders.mapNotNull { folder ->
            val program = folder.listFiles().orEmpty().filter { it.extension == "pte" && it.name != "draft.pte" }.minByOrNull { it.name }
            if (program == null || !File(folder, "tokenizer.json").exists()) return@mapNotNull null
            ModelEntry("pushed:${folder.name}", folder.name, Source.Folder(folder, program))
        }
    }

    /** An entry for a file that the picker gave. */
    fun picked(uri: Uri): ModelEntry {
        val tokenizer = bundled.firstOrNull()?.source as? Source.Assets ?: throw IOException(context.getString(R.string.no_model))
        val name = context.contentResolver.query(uri, arrayOf(OpenableColumns.DISPLAY_NAME), null, null, null)?.use {
            if (it.moveToFirst()) it.getString(0) else null
        }
        return ModelEntry("picked:$uri", name ?: uri.lastPathSegment ?: uri.toString(), Source.Picked(uri, tokenizer))
    }

    /** Opens a model; takes a while, so not on the main thread. */
    fun open(entry: ModelEntry, device: Device = Device.CPU): BlockFFN {
        val files = when (val source = entry.source) {
            is Source.Assets -> listOf(ModelFile.asset(context, "${source.folder}/${source.program}")) + tokenizer(source) +
                source.draft?.let { ModelFile.asset(context, "${source.folder}/$it") }
            is Source.Folder -> listOf(
                ModelFile.of(source.program), ModelFile.of(File(source.folder, "tokenizer.json")),
                File(source.folder, "tokenizer_config.json").takeIf { it.exists() }?.let { ModelFile.of(it) },
                File(source.folder, "draft.pte").takeIf { it.exists() }?.let { ModelFile.of(it) },
            )
            is Source.Picked -> listOf(ModelFile.of(context, source.uri)) + tokenizer(source.tokenizer) + null
        }
        try {
            return BlockFFN.open(files[0]!!, files[1]!!, files[2], files[3], device = device, cache = context.codeCacheDir)
        } finally {
            files.forEach { it?.close() }  // mapped by now
        }
    }

    private fun tokenizer(source: Source.Assets) = listOf(
        ModelFile.asset(context, "${source.folder}/tokenizer.json"),
        if (source.hasConfig) ModelFile.asset(context, "${source.folder}/tokenizer_config.json") else null,
    )
}
