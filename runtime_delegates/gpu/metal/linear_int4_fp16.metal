// Written by build_shaders.py from shaders/linear.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T, uint A>
inline void spvArrayCopyFromStackToStack1(thread T (&dst)[A], thread const T (&src)[A])
{
    for (uint i = 0; i < A; i++)
    {
        dst[i] = src[i];
    }
}

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

struct Weights
{
    uint4 weights[1];
};

#ifndef BLOCKFFN_TOKENS
#define BLOCKFFN_TOKENS 1u
#endif
constant uint TOKENS = BLOCKFFN_TOKENS;
constant uint _646 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _649 = (THREADS * TOKENS);
constant uint _650 = (_649 * 2u);
constant uint _675 = (64u * TOKENS);
constant uint _710 = (64u * TOKENS);
constant bool _766 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint tiles_per_group;
    uint row_offset;
    uint rows;
    uint cols;
    uint x_stride;
    uint x_group;
    uint y_stride;
    uint y_group;
    uint bias_at;
    uint flags;
    float scale;
    uint residual_stride;
};

constant uint _833 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _933 = (TOKENS * 2u);
constant bool _965 = (TOKENS >= 4u);
constant bool _967 = (_965 && true);
constant int _968 = _967 ? 2 : 4;
constant uint _969 = (uint(_968) + 0u);
constant bool _1025 = (TOKENS >= 4u);
constant bool _1026 = (_1025 && true);
constant int _1027 = _1026 ? 2 : 4;
constant uint _1028 = (uint(_1027) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1167 = (TOKENS >= 4u);
constant bool _1168 = (_1167 && true);
constant int _1169 = _1168 ? 2 : 4;
constant uint _1170 = (uint(_1169) + 0u);
constant uint _1171 = (_1170 * THREADS);

struct Bias
{
    float bias0[1];
};

struct Residual
{
    float residual[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1248 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1248, 1u, 1u);

kernel void linear_int4_fp16(constant Push& p [[buffer(0)]], const device Weights& _128 [[buffer(1)]], const device X& _1099 [[buffer(2)]], device Y& _858 [[buffer(3)]], const device Bias& _1201 [[buffer(4)]], const device Step& _774 [[buffer(5)]], const device Residual& _1225 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_650];
    threadgroup float chunk_sums[_710];
    do
    {
        uint _764 = gl_WorkGroupID.z * TOKENS;
        uint _1967;
        if (_766)
        {
            _1967 = 1u;
        }
        else
        {
            _1967 = _774.step_[0];
        }
        uint _1968;
        if ((p.flags & 2u) != 0u)
        {
            _1968 = _774.step_[2];
        }
        else
        {
            _1968 = 0u;
        }
        if (_764 >= _1967)
        {
            break;
        }
        uint _812 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _817 = _764 + (gl_LocalInvocationID.x / 8u);
        uint _827 = gl_WorkGroupID.y * p.y_group;
        uint _830 = ((_817 * p.y_stride) + _827) + _812;
        bool _834 = gl_LocalInvocationID.x < _833;
        bool _841;
        if (_834)
        {
            _841 = _812 < p.rows;
        }
        else
        {
            _841 = _834;
        }
        bool _844 = _817 < _1967;
        bool _845 = _841 && _844;
        if ((_764 + TOKENS) <= _1968)
        {
            if (_845)
            {
                _858.y[_830] = 0.0;
            }
            break;
        }
        uint _877 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1969 = 0u; _1969 < TOKENS; )
        {
            x_at[_1969] = ((_764 + _1969) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1969++;
            continue;
        }
        uint _909 = _1967 - _764;
        float acc[16];
        for (uint _1970 = 0u; _1970 < _933; )
        {
            acc[_1970] = 0.0;
            _1970++;
            continue;
        }
        uint _1261 = ((p.cols + 31u) / 32u) * 8u;
        uint _1971;
        _1971 = gl_LocalInvocationID.x;
        uint4 raw[4][1];
        uint pair[4];
        bool _955;
        for (;;)
        {
            _955 = _1971 < _1261;
            if (_955)
            {
                bool _970 = 0u < _969;
                bool _979;
                if (_970)
                {
                    _979 = _955;
                }
                else
                {
                    _979 = _970;
                }
                if (_979)
                {
                    uint4 _1954[1] = { _128.weights[_877 + _1971] };
                    spvArrayCopyFromStackToStack1(raw[0u], _1954);
                    pair[0u] = ((device uint*)&_128.weights[(_877 + _1261) + (_1971 >> uint(3))])[_1971 & 3u];
                }
                bool _2162 = 1u < _969;
                bool _2168;
                if (_2162)
                {
                    _2168 = (_1971 + THREADS) < _1261;
                }
                else
                {
                    _2168 = _2162;
                }
                if (_2168)
                {
                    uint _2171 = _1971 + THREADS;
                    uint4 _2181[1] = { _128.weights[_877 + _2171] };
                    spvArrayCopyFromStackToStack1(raw[1u], _2181);
                    pair[1u] = ((device uint*)&_128.weights[(_877 + _1261) + (_2171 >> uint(3))])[_2171 & 3u];
                }
                bool _2192 = 2u < _969;
                bool _2198;
                if (_2192)
                {
                    _2198 = (_1971 + (2u * THREADS)) < _1261;
                }
                else
                {
                    _2198 = _2192;
                }
                if (_2198)
                {
                    uint _2201 = _1971 + (2u * THREADS);
                    uint4 _2211[1] = { _128.weights[_877 + _2201] };
                    spvArrayCopyFromStackToStack1(raw[2u], _2211);
                    pair[2u] = ((device uint*)&_128.weights[(_877 + _1261) + (_2201 >> uint(3))])[_2201 & 3u];
                }
                bool _2222 = 3u < _969;
                bool _2228;
                if (_2222)
                {
                    _2228 = (_1971 + (3u * THREADS)) < _1261;
                }
                else
                {
                    _2228 = _2222;
                }
                if (_2228)
                {
                    uint _2231 = _1971 + (3u * THREADS);
                    uint4 _2241[1] = { _128.weights[_877 + _2231] };
                    spvArrayCopyFromStackToStack1(raw[3u], _2241);
                    pair[3u] = ((device uint*)&_128.weights[(_877 + _1261) + (_2231 >> uint(3))])[_2231 & 3u];
                }
                for (uint _1982 = 0u; _1982 < 4u; _1982++)
                {
                    uint _1023 = _1971 + (_1982 * THREADS);
                    if ((_1982 >= _1028) || (_1023 >= _1261))
                    {
                        continue;
                    }
                    uint _1307 = raw[_1982][0].x >> 0u;
                    half2 _1319 = as_type<half2>((_1307 & 983055u) | 1677747200u) - half2(half(1032.0));
                    half2 _1333 = fma(as_type<half2>((_1307 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                    uint _2257 = raw[_1982][0].x >> 8u;
                    half2 _2265 = as_type<half2>((_2257 & 983055u) | 1677747200u) - half2(half(1032.0));
                    half2 _2275 = fma(as_type<half2>((_2257 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                    uint _2294 = raw[_1982][0].y >> 0u;
                    half2 _2302 = as_type<half2>((_2294 & 983055u) | 1677747200u) - half2(half(1032.0));
                    half2 _2312 = fma(as_type<half2>((_2294 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                    uint _2325 = raw[_1982][0].y >> 8u;
                    half2 _2333 = as_type<half2>((_2325 & 983055u) | 1677747200u) - half2(half(1032.0));
                    half2 _2343 = fma(as_type<half2>((_2325 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                    uint _2368 = raw[_1982][0].z >> 0u;
                    half2 _2376 = as_type<half2>((_2368 & 983055u) | 1677747200u) - half2(half(1032.0));
                    half2 _2386 = fma(as_type<half2>((_2368 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                    uint _2399 = raw[_1982][0].z >> 8u;
                    half2 _2407 = as_type<half2>((_2399 & 983055u) | 1677747200u) - half2(half(1032.0));
                    half2 _2417 = fma(as_type<half2>((_2399 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                    uint _2437 = raw[_1982][0].w >> 0u;
                    half2 _2445 = as_type<half2>((_2437 & 983055u) | 1677747200u) - half2(half(1032.0));
                    half2 _2455 = fma(as_type<half2>((_2437 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                    uint _2468 = raw[_1982][0].w >> 8u;
                    half2 _2476 = as_type<half2>((_2468 & 983055u) | 1677747200u) - half2(half(1032.0));
                    half2 _2486 = fma(as_type<half2>((_2468 & 15728880u) | 1677747200u), half2(half(0.0625)), half2(half(-72.0)));
                    uint _1351 = pair[_1982] & 65535u;
                    uint _1366 = _1351 & 32767u;
                    uint _1368 = _1366 << uint(13);
                    float _1383 = (_1366 < 1024u) ? (as_type<float>(947912704u | _1368) - 6.103515625e-05) : as_type<float>(_1368 + ((_1366 < 31744u) ? 939524096u : 1879048192u));
                    float _1987;
                    if ((_1351 & 32768u) != 0u)
                    {
                        _1987 = -_1383;
                    }
                    else
                    {
                        _1987 = _1383;
                    }
                    uint _1355 = pair[_1982] >> uint(16);
                    uint _1402 = _1355 & 32767u;
                    uint _1404 = _1402 << uint(13);
                    float _1419 = (_1402 < 1024u) ? (as_type<float>(947912704u | _1404) - 6.103515625e-05) : as_type<float>(_1404 + ((_1402 < 31744u) ? 939524096u : 1879048192u));
                    float _1988;
                    if ((_1355 & 32768u) != 0u)
                    {
                        _1988 = -_1419;
                    }
                    else
                    {
                        _1988 = _1419;
                    }
                    for (uint _1989 = 0u; _1989 < TOKENS; _1989 += 4u)
                    {
                        if ((_1989 != 0u) && (_1989 >= _909))
                        {
                            continue;
                        }
                        for (uint _1990 = _1989; _1990 < (_1989 + 4u); _1990++)
                        {
                            if (_1990 >= TOKENS)
                            {
                                continue;
                            }
                            uint _1439 = ((_1023 >> uint(3)) * 8u) + (((_1023 >> uint(2)) & 1u) * 2u);
                            uint _1108 = x_at[_1990] + _1439;
                            uint _2514 = x_at[_1990] + (_1439 + 1u);
                            uint _2538 = x_at[_1990] + (_1439 + 4u);
                            uint _2562 = x_at[_1990] + (_1439 + 5u);
                            half2 _1475 = half2(_1099.x[_1108].xz);
                            half2 _1484 = half2(_1099.x[_1108].yw);
                            half2 _2577 = half2(_1099.x[_2514].xz);
                            half2 _2584 = half2(_1099.x[_2514].yw);
                            half2 _2597 = half2(_1099.x[_2538].xz);
                            half2 _2604 = half2(_1099.x[_2538].yw);
                            half2 _2617 = half2(_1099.x[_2562].xz);
                            half2 _2624 = half2(_1099.x[_2562].yw);
                            half2 _2697 = max(max(max(max(max(max(max(abs(_1475), abs(_1484)), abs(_2577)), abs(_2584)), abs(_2597)), abs(_2604)), abs(_2617)), abs(_2624));
                            half _1512 = max(_2697.x, _2697.y);
                            half2 _2793 = fma(_2343, _2624, fma(_2312, _2617, fma(_2275, _2604, fma(_1333, _2597, fma(_2333, _2584, fma(_2302, _2577, fma(_2265, _1484, spvFMul(_1319, _1475))))))));
                            half2 _2903 = fma(_2486, _2624, fma(_2455, _2617, fma(_2417, _2604, fma(_2386, _2597, fma(_2476, _2584, fma(_2445, _2577, fma(_2407, _1484, _2376 * _1475)))))));
                            float _3624;
                            float _3625;
                            if ((_1990 < _909) && (!((_1512 >= half(0.03125)) && (_1512 <= half(512.0)))))
                            {
                                uint _1617 = raw[_1982][0].x >> uint(4);
                                uint _2954 = raw[_1982][0].y >> uint(4);
                                uint _3021 = raw[_1982][0].z >> uint(4);
                                uint _3083 = raw[_1982][0].w >> uint(4);
                                float _3122 = fma(as_type<float>((_1617 & 15u) | 1258291200u) - 8388616.0, _1099.x[_2538].x, fma(as_type<float>(((raw[_1982][0].y >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2514].w, fma(as_type<float>(((raw[_1982][0].y >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2514].z, fma(as_type<float>(((raw[_1982][0].y >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2514].y, fma(as_type<float>((raw[_1982][0].y & 15u) | 1258291200u) - 8388616.0, _1099.x[_2514].x, fma(as_type<float>(((raw[_1982][0].x >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_1108].w, fma(as_type<float>(((raw[_1982][0].x >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_1108].z, fma(as_type<float>(((raw[_1982][0].x >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_1108].y, spvFMul(as_type<float>((raw[_1982][0].x & 15u) | 1258291200u) - 8388616.0, _1099.x[_1108].x)))))))));
                                float _3255 = fma(as_type<float>((_3021 & 15u) | 1258291200u) - 8388616.0, _1099.x[_2538].x, fma(as_type<float>(((raw[_1982][0].w >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2514].w, fma(as_type<float>(((raw[_1982][0].w >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2514].z, fma(as_type<float>(((raw[_1982][0].w >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2514].y, fma(as_type<float>((raw[_1982][0].w & 15u) | 1258291200u) - 8388616.0, _1099.x[_2514].x, fma(as_type<float>(((raw[_1982][0].z >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_1108].w, fma(as_type<float>(((raw[_1982][0].z >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_1108].z, fma(as_type<float>(((raw[_1982][0].z >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_1108].y, (as_type<float>((raw[_1982][0].z & 15u) | 1258291200u) - 8388616.0) * _1099.x[_1108].x))))))));
                                _3625 = fma(as_type<float>(((_2954 >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2562].w, fma(as_type<float>(((_2954 >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2562].z, fma(as_type<float>(((_2954 >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2562].y, fma(as_type<float>((_2954 & 15u) | 1258291200u) - 8388616.0, _1099.x[_2562].x, fma(as_type<float>(((_1617 >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2538].w, fma(as_type<float>(((_1617 >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2538].z, fma(as_type<float>(((_1617 >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2538].y, _3122)))))));
                                _3624 = fma(as_type<float>(((_3083 >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2562].w, fma(as_type<float>(((_3083 >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2562].z, fma(as_type<float>(((_3083 >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2562].y, fma(as_type<float>((_3083 & 15u) | 1258291200u) - 8388616.0, _1099.x[_2562].x, fma(as_type<float>(((_3021 >> uint(24)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2538].w, fma(as_type<float>(((_3021 >> uint(16)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2538].z, fma(as_type<float>(((_3021 >> uint(8)) & 15u) | 1258291200u) - 8388616.0, _1099.x[_2538].y, _3255)))))));
                            }
                            else
                            {
                                _3625 = spvFAdd(float(_2793.x), float(_2793.y));
                                _3624 = float(_2903.x) + float(_2903.y);
                            }
                            uint _1147 = _1990 * 2u;
                            acc[_1147] = fma(_1987, _3625, acc[_1147]);
                            uint _3327 = _1147 + 1u;
                            acc[_3327] = fma(_1988, _3624, acc[_3327]);
                        }
                    }
                }
                _1971 += _1171;
                continue;
            }
            else
            {
                break;
            }
        }
        float param[16];
        spvArrayCopyFromStackToStack1(param, acc);
        for (uint _1972 = 0u; _1972 < _646; )
        {
            partial[(_1972 * THREADS) + gl_LocalInvocationID.x] = param[_1972];
            _1972++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1973 = gl_LocalInvocationID.x; _1973 < _675; _1973 += THREADS)
        {
            uint _1886 = (((_1973 / 32u) * THREADS) + ((_1973 / 8u) % 4u)) + (4u * (_1973 % 8u));
            float _1980;
            _1980 = partial[_1886];
            for (uint _1978 = 32u; _1978 < THREADS; )
            {
                _1980 = spvFAdd(_1980, partial[_1886 + _1978]);
                _1978 += 32u;
                continue;
            }
            chunk_sums[_1973] = _1980;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_845)
        {
            break;
        }
        uint _1186 = gl_LocalInvocationID.x % 8u;
        uint _1927 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_1186 % 2u)) * 4u) + (_1186 / 2u)) * 8u;
        float _1191 = spvFMul((((((spvFAdd(chunk_sums[_1927], chunk_sums[_1927 + 1u]) + chunk_sums[_1927 + 2u]) + chunk_sums[_1927 + 3u]) + chunk_sums[_1927 + 4u]) + chunk_sums[_1927 + 5u]) + chunk_sums[_1927 + 6u]) + chunk_sums[_1927 + 7u], spvFMul(p.scale, 1.0));
        float _1976;
        if ((p.flags & 1u) != 0u)
        {
            _1976 = spvFAdd(_1191, _1201.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _812]);
        }
        else
        {
            _1976 = _1191;
        }
        float _1977;
        if ((p.flags & 4u) != 0u)
        {
            _1977 = spvFAdd(_1976, _1225.residual[((_817 * p.residual_stride) + _827) + _812]);
        }
        else
        {
            _1977 = _1976;
        }
        _858.y[_830] = (_817 < _1968) ? 0.0 : _1977;
        break;
    } while(false);
}

