package org.blockffn.demo

import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.channels.trySendBlocking
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.channelFlow
import kotlinx.coroutines.runInterruptible
import org.blockffn.BlockFFN
import org.blockffn.Options

// As the README has it, for apps with coroutines: the library itself needs none.
fun BlockFFN.texts(prompt: String, options: Options = Options()): Flow<String> = channelFlow {
    runInterruptible(Dispatchers.IO) { generate(prompt, options) { text, _ -> trySendBlocking(text).isSuccess } }
}
