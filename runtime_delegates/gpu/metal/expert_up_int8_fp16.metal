// Written by build_shaders.py from shaders/expert_up.comp; do not edit. Compile without fast math.
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
constant uint _663 = (TOKENS * 2u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _666 = (THREADS * TOKENS);
constant uint _667 = (_666 * 2u);
constant uint _692 = (64u * TOKENS);
constant uint _728 = (64u * TOKENS);

struct Push
{
    uint first;
    uint tile_vectors;
    uint expert_vectors;
    uint first_expert;
    uint rows;
    uint cols;
    uint x_stride;
    uint y_stride;
    uint score_stride;
};

constant bool _788 = (TOKENS == 1u);

struct Step
{
    uint step_[1];
};

struct Scores
{
    float scores[1];
};

constant bool _930 = (TOKENS == 1u);
constant uint _1003 = (TOKENS * 2u);
constant bool _1035 = (TOKENS >= 4u);
constant bool _1037 = (_1035 && true);
constant int _1039 = _1037 ? 2 : 4;
constant uint _1040 = (uint(_1039) + 0u);
constant bool _1096 = (TOKENS >= 4u);
constant bool _1097 = (_1096 && true);
constant int _1098 = _1097 ? 2 : 4;
constant uint _1099 = (uint(_1098) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1227 = (TOKENS >= 4u);
constant bool _1228 = (_1227 && true);
constant int _1229 = _1228 ? 2 : 4;
constant uint _1230 = (uint(_1229) + 0u);
constant uint _1231 = (_1230 * THREADS);

struct Y
{
    float y[1];
};

constant bool _1301 = (TOKENS > 1u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _1307 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1307, 1u, 1u);

kernel void expert_up_int8_fp16(constant Push& p [[buffer(0)]], const device Weights& _215 [[buffer(1)]], const device X& _1162 [[buffer(2)]], device Y& _1283 [[buffer(3)]], const device Scores& _825 [[buffer(4)]], const device Step& _796 [[buffer(5)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_667];
    threadgroup float chunk_sums[_728];
    do
    {
        uint _786 = p.first_expert + gl_WorkGroupID.y;
        uint _1949;
        if (_788)
        {
            _1949 = 1u;
        }
        else
        {
            _1949 = _796.step_[0];
        }
        uint2 mask = uint2(0u);
        for (uint _1950 = 0u; _1950 < _1949; _1950 += TOKENS)
        {
            for (uint _2037 = 0u; _2037 < TOKENS; _2037++)
            {
                uint _828 = _1950 + _2037;
                if ((_828 < _1949) && (_825.scores[(_828 * p.score_stride) + _786] > 0.0))
                {
                    uint _850 = _828 / 32u;
                    mask[_850] |= (1u << (_828 % 32u));
                }
            }
        }
        uint _878 = (p.first + (gl_WorkGroupID.y * p.expert_vectors)) + (gl_WorkGroupID.x * p.tile_vectors);
        uint _885 = (gl_WorkGroupID.x * 8u) + (gl_LocalInvocationID.x % 8u);
        uint _894 = uint(int(popcount(mask.x)) + int(popcount(mask.y)));
        if (_894 == 0u)
        {
            break;
        }
        uint _902 = gl_LocalInvocationID.x % 8u;
        uint _1349 = ((p.cols + 7u) / 8u) * 4u;
        uint _1327 = _878 + _1349;
        uint _1329 = _902 / 2u;
        uint _1951;
        if ((_902 & 1u) == 0u)
        {
            _1951 = ((device uint*)&_215.weights[_1327])[_1329] & 65535u;
        }
        else
        {
            _1951 = ((device uint*)&_215.weights[_1327])[_1329] >> uint(16);
        }
        uint _1358 = _1951 & 32767u;
        uint _1360 = _1358 << uint(13);
        float _1375 = (_1358 < 1024u) ? (as_type<float>(947912704u | _1360) - 6.103515625e-05) : as_type<float>(_1360 + ((_1358 < 31744u) ? 939524096u : 1879048192u));
        float _1952;
        if ((_1951 & 32768u) != 0u)
        {
            _1952 = -_1375;
        }
        else
        {
            _1952 = _1375;
        }
        uint _1300;
        uint token[8];
        uint x_at[8];
        float acc[16];
        uint4 raw[4][1];
        for (uint _1953 = _894; _1953 != 0u; _1953 = _1300)
        {
            uint _921 = min(_1953, TOKENS);
            uint _2033;
            for (uint _1956 = 0u, _2034 = 0u; _1956 < TOKENS; _2034 = _2033, _1956++)
            {
                if (_930)
                {
                    mask.x = 0u;
                    _2033 = _2034;
                }
                else
                {
                    uint _2035;
                    if (mask.x != 0u)
                    {
                        uint _941 = mask.x;
                        uint _944 = mask.x;
                        mask.x &= (mask.x - 1u);
                        _2035 = uint(int(popcount((~_941) & (_944 - 1u))));
                    }
                    else
                    {
                        uint _2036;
                        if (mask.y != 0u)
                        {
                            uint _964 = mask.y;
                            uint _967 = mask.y;
                            mask.y &= (mask.y - 1u);
                            _2036 = uint(32 + int(popcount((~_964) & (_967 - 1u))));
                        }
                        else
                        {
                            _2036 = _2034;
                        }
                        _2035 = _2036;
                    }
                    _2033 = _2035;
                }
                token[_1956] = _2033;
                x_at[_1956] = _2033 * p.x_stride;
            }
            for (uint _1957 = 0u; _1957 < _1003; )
            {
                acc[_1957] = 0.0;
                _1957++;
                continue;
            }
            uint _1958;
            _1958 = gl_LocalInvocationID.x;
            bool _1025;
            for (;;)
            {
                _1025 = _1958 < _1349;
                if (_1025)
                {
                    bool _1041 = 0u < _1040;
                    bool _1050;
                    if (_1041)
                    {
                        _1050 = _1025;
                    }
                    else
                    {
                        _1050 = _1041;
                    }
                    if (_1050)
                    {
                        uint4 _1941[1] = { _215.weights[_878 + _1958] };
                        spvArrayCopyFromStackToStack1(raw[0u], _1941);
                    }
                    bool _2110 = 1u < _1040;
                    bool _2116;
                    if (_2110)
                    {
                        _2116 = (_1958 + THREADS) < _1349;
                    }
                    else
                    {
                        _2116 = _2110;
                    }
                    if (_2116)
                    {
                        uint4 _2123[1] = { _215.weights[_878 + (_1958 + THREADS)] };
                        spvArrayCopyFromStackToStack1(raw[1u], _2123);
                    }
                    bool _2133 = 2u < _1040;
                    bool _2139;
                    if (_2133)
                    {
                        _2139 = (_1958 + (2u * THREADS)) < _1349;
                    }
                    else
                    {
                        _2139 = _2133;
                    }
                    if (_2139)
                    {
                        uint4 _2146[1] = { _215.weights[_878 + (_1958 + (2u * THREADS))] };
                        spvArrayCopyFromStackToStack1(raw[2u], _2146);
                    }
                    bool _2156 = 3u < _1040;
                    bool _2162;
                    if (_2156)
                    {
                        _2162 = (_1958 + (3u * THREADS)) < _1349;
                    }
                    else
                    {
                        _2162 = _2156;
                    }
                    if (_2162)
                    {
                        uint4 _2169[1] = { _215.weights[_878 + (_1958 + (3u * THREADS))] };
                        spvArrayCopyFromStackToStack1(raw[3u], _2169);
                    }
                    for (uint _1985 = 0u; _1985 < 4u; _1985++)
                    {
                        uint _1094 = _1958 + (_1985 * THREADS);
                        if ((_1985 >= _1099) || (_1094 >= _1349))
                        {
                            continue;
                        }
                        uint _1417 = raw[_1985][0].x ^ 2155905152u;
                        half2 _1424 = as_type<half2>((_1417 & 16711935u) | 1677747200u) - half2(half(1152.0));
                        half2 _1434 = as_type<half2>(((_1417 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                        uint _2181 = raw[_1985][0].y ^ 2155905152u;
                        half2 _2186 = as_type<half2>((_2181 & 16711935u) | 1677747200u) - half2(half(1152.0));
                        half2 _2194 = as_type<half2>(((_2181 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                        uint _2205 = raw[_1985][0].z ^ 2155905152u;
                        half2 _2210 = as_type<half2>((_2205 & 16711935u) | 1677747200u) - half2(half(1152.0));
                        half2 _2218 = as_type<half2>(((_2205 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                        uint _2229 = raw[_1985][0].w ^ 2155905152u;
                        half2 _2234 = as_type<half2>((_2229 & 16711935u) | 1677747200u) - half2(half(1152.0));
                        half2 _2242 = as_type<half2>(((_2229 >> uint(8)) & 16711935u) | 1677747200u) - half2(half(1152.0));
                        for (uint _1989 = 0u; _1989 < TOKENS; _1989 += 4u)
                        {
                            if ((_1989 != 0u) && (_1989 >= _1953))
                            {
                                continue;
                            }
                            for (uint _1994 = _1989; _1994 < (_1989 + 4u); _1994++)
                            {
                                if (_1994 >= TOKENS)
                                {
                                    continue;
                                }
                                uint _1444 = (_1094 >> uint(2)) * 2u;
                                uint _1171 = x_at[_1994] + _1444;
                                uint _2256 = x_at[_1994] + (_1444 + 1u);
                                half2 _1475 = half2(_1162.x[_1171].xz);
                                half2 _1484 = half2(_1162.x[_1171].yw);
                                half2 _2271 = half2(_1162.x[_2256].xz);
                                half2 _2278 = half2(_1162.x[_2256].yw);
                                half2 _2303 = max(max(max(abs(_1475), abs(_1484)), abs(_2271)), abs(_2278));
                                half _1512 = max(_2303.x, _2303.y);
                                half2 _2335 = fma(_2194, _2278, fma(_2186, _2271, fma(_1434, _1484, spvFMul(_1424, _1475))));
                                half2 _2389 = fma(_2242, _2278, fma(_2234, _2271, fma(_2218, _1484, _2210 * _1475)));
                                float _2796;
                                float _2797;
                                if ((_1994 < _1953) && (!((_1512 >= half(0.03125)) && (_1512 <= half(64.0)))))
                                {
                                    uint _1609 = raw[_1985][0].x ^ 2155905152u;
                                    uint _2408 = raw[_1985][0].y ^ 2155905152u;
                                    uint _2438 = raw[_1985][0].z ^ 2155905152u;
                                    uint _2468 = raw[_1985][0].w ^ 2155905152u;
                                    _2797 = fma(as_type<float>((_2408 >> uint(24)) | 1258291200u) - 8388736.0, _1162.x[_2256].w, fma(as_type<float>(((_2408 >> uint(16)) & 255u) | 1258291200u) - 8388736.0, _1162.x[_2256].z, fma(as_type<float>(((_2408 >> uint(8)) & 255u) | 1258291200u) - 8388736.0, _1162.x[_2256].y, fma(as_type<float>((_2408 & 255u) | 1258291200u) - 8388736.0, _1162.x[_2256].x, fma(as_type<float>((_1609 >> uint(24)) | 1258291200u) - 8388736.0, _1162.x[_1171].w, fma(as_type<float>(((_1609 >> uint(16)) & 255u) | 1258291200u) - 8388736.0, _1162.x[_1171].z, fma(as_type<float>(((_1609 >> uint(8)) & 255u) | 1258291200u) - 8388736.0, _1162.x[_1171].y, spvFMul(as_type<float>((_1609 & 255u) | 1258291200u) - 8388736.0, _1162.x[_1171].x))))))));
                                    _2796 = fma(as_type<float>((_2468 >> uint(24)) | 1258291200u) - 8388736.0, _1162.x[_2256].w, fma(as_type<float>(((_2468 >> uint(16)) & 255u) | 1258291200u) - 8388736.0, _1162.x[_2256].z, fma(as_type<float>(((_2468 >> uint(8)) & 255u) | 1258291200u) - 8388736.0, _1162.x[_2256].y, fma(as_type<float>((_2468 & 255u) | 1258291200u) - 8388736.0, _1162.x[_2256].x, fma(as_type<float>((_2438 >> uint(24)) | 1258291200u) - 8388736.0, _1162.x[_1171].w, fma(as_type<float>(((_2438 >> uint(16)) & 255u) | 1258291200u) - 8388736.0, _1162.x[_1171].z, fma(as_type<float>(((_2438 >> uint(8)) & 255u) | 1258291200u) - 8388736.0, _1162.x[_1171].y, (as_type<float>((_2438 & 255u) | 1258291200u) - 8388736.0) * _1162.x[_1171].x)))))));
                                }
                                else
                                {
                                    _2797 = spvFAdd(float(_2335.x), float(_2335.y));
                                    _2796 = float(_2389.x) + float(_2389.y);
                                }
                                uint _1204 = _1994 * 2u;
                                acc[_1204] = spvFAdd(acc[_1204], _2797);
                                uint _2564 = _1204 + 1u;
                                acc[_2564] += _2796;
                            }
                        }
                    }
                    _1958 += _1231;
                    continue;
                }
                else
                {
                    break;
                }
            }
            float param[16];
            spvArrayCopyFromStackToStack1(param, acc);
            for (uint _1959 = 0u; _1959 < _663; )
            {
                partial[(_1959 * THREADS) + gl_LocalInvocationID.x] = param[_1959];
                _1959++;
                continue;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint _1960 = gl_LocalInvocationID.x; _1960 < _692; _1960 += THREADS)
            {
                uint _1799 = (((_1960 / 32u) * THREADS) + ((_1960 / 8u) % 4u)) + (4u * (_1960 % 8u));
                float _1983;
                _1983 = partial[_1799];
                for (uint _1981 = 32u; _1981 < THREADS; )
                {
                    _1983 = spvFAdd(_1983, partial[_1799 + _1981]);
                    _1981 += 32u;
                    continue;
                }
                chunk_sums[_1960] = _1983;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            uint _1966;
            _1966 = 0u;
            uint _2041;
            for (uint _1961 = 0u; _1961 < TOKENS; _1966 = _2041, _1961++)
            {
                if ((gl_LocalInvocationID.x / 8u) == _1961)
                {
                    _2041 = token[_1961];
                }
                else
                {
                    _2041 = _1966;
                }
            }
            bool _1260 = gl_LocalInvocationID.x < (8u * _921);
            bool _1267;
            if (_1260)
            {
                _1267 = _885 < p.rows;
            }
            else
            {
                _1267 = _1260;
            }
            if (_1267)
            {
                uint _1840 = (((((gl_LocalInvocationID.x / 8u) * 2u) + (_902 % 2u)) * 4u) + _1329) * 8u;
                float _1279 = spvFMul((((((spvFAdd(chunk_sums[_1840], chunk_sums[_1840 + 1u]) + chunk_sums[_1840 + 2u]) + chunk_sums[_1840 + 3u]) + chunk_sums[_1840 + 4u]) + chunk_sums[_1840 + 5u]) + chunk_sums[_1840 + 6u]) + chunk_sums[_1840 + 7u], _1952);
                float _1868 = -abs(_1279);
                float _1967;
                do
                {
                    if (_1868 < (-87.0))
                    {
                        _1967 = 0.0;
                        break;
                    }
                    float _1897 = floor(fma(_1868, 1.44269502162933349609375, 0.5));
                    float _1903 = fma(_1897, 0.00021219444170128554105758666992188, fma(_1897, -0.693359375, _1868));
                    _1967 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _1903, 0.00139819993637502193450927734375), _1903, 0.008333452045917510986328125), _1903, 0.0416657961905002593994140625), _1903, 0.1666666567325592041015625), _1903, 0.5), _1903), _1903, _1903), 1.0) * as_type<float>(uint(int(_1897) + 127) << uint(23));
                    break;
                } while(false);
                float _1968;
                if (_1279 < 0.0)
                {
                    _1968 = _1279 * _1967;
                }
                else
                {
                    _1968 = _1279;
                }
                _1283.y[(((_786 * 64u) + _1966) * p.y_stride) + _885] = _1968 / (1.0 + _1967);
            }
            _1300 = _1953 - _921;
            if (_1301 && (_1300 != 0u))
            {
                threadgroup_barrier(mem_flags::mem_threadgroup);
            }
        }
        break;
    } while(false);
}

