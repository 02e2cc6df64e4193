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
constant uint _518 = (TOKENS * 4u);
#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _521 = (THREADS * TOKENS);
constant uint _522 = (_521 * 4u);
constant uint _547 = (64u * TOKENS);
constant uint _583 = (64u * TOKENS);
constant bool _639 = (TOKENS == 1u);

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

constant uint _708 = (8u * TOKENS);

struct Y
{
    float y[1];
};

constant uint _809 = (TOKENS * 4u);
constant bool _841 = (TOKENS >= 4u);
constant bool _843 = (_841 && false);
constant int _844 = _843 ? 2 : 2;
constant uint _845 = (uint(_844) + 0u);
constant bool _901 = (TOKENS >= 4u);
constant bool _902 = (_901 && false);
constant int _903 = _902 ? 2 : 2;
constant uint _904 = (uint(_903) + 0u);

struct X
{
    float4 x[1];
};

constant bool _1149 = (TOKENS >= 4u);
constant bool _1150 = (_1149 && false);
constant int _1151 = _1150 ? 2 : 2;
constant uint _1152 = (uint(_1151) + 0u);
constant uint _1153 = (_1152 * THREADS);

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
constant uint _1231 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_1231, 1u, 1u);

kernel void linear_fp32_fp16(constant Push& p [[buffer(0)]], const device Weights& _142 [[buffer(1)]], const device X& _968 [[buffer(2)]], device Y& _734 [[buffer(3)]], const device Bias& _1183 [[buffer(4)]], const device Step& _647 [[buffer(5)]], const device Residual& _1207 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup float partial[_522];
    threadgroup float chunk_sums[_583];
    do
    {
        uint _637 = gl_WorkGroupID.z * TOKENS;
        uint _1789;
        if (_639)
        {
            _1789 = 1u;
        }
        else
        {
            _1789 = _647.step_[0];
        }
        uint _1790;
        if ((p.flags & 2u) != 0u)
        {
            _1790 = _647.step_[2];
        }
        else
        {
            _1790 = 0u;
        }
        if (_637 >= _1789)
        {
            break;
        }
        uint _686 = (p.row_offset + (gl_WorkGroupID.x * 8u)) + (gl_LocalInvocationID.x % 8u);
        uint _691 = _637 + (gl_LocalInvocationID.x / 8u);
        uint _702 = gl_WorkGroupID.y * p.y_group;
        uint _705 = ((_691 * p.y_stride) + _702) + _686;
        bool _709 = gl_LocalInvocationID.x < _708;
        bool _717;
        if (_709)
        {
            _717 = _686 < p.rows;
        }
        else
        {
            _717 = _709;
        }
        bool _720 = _691 < _1789;
        bool _721 = _717 && _720;
        if ((_637 + TOKENS) <= _1790)
        {
            if (_721)
            {
                _734.y[_705] = 0.0;
            }
            break;
        }
        uint _753 = p.first + (((gl_WorkGroupID.y * p.tiles_per_group) + gl_WorkGroupID.x) * p.tile_vectors);
        uint x_at[8];
        for (uint _1791 = 0u; _1791 < TOKENS; )
        {
            x_at[_1791] = ((_637 + _1791) * p.x_stride) + (gl_WorkGroupID.y * p.x_group);
            _1791++;
            continue;
        }
        uint _785 = _1789 - _637;
        float acc[32];
        for (uint _1792 = 0u; _1792 < _809; )
        {
            acc[_1792] = 0.0;
            _1792++;
            continue;
        }
        uint _1244 = ((p.cols + 3u) / 4u) * 2u;
        uint4 raw[2][4];
        float param_1[4];
        for (uint _1793 = gl_LocalInvocationID.x; _1793 < _1244; _1793 += _1153)
        {
            for (uint _1803 = 0u; _1803 < 2u; _1803++)
            {
                bool _846 = _1803 < _845;
                bool _855;
                if (_846)
                {
                    _855 = (_1793 + (_1803 * THREADS)) < _1244;
                }
                else
                {
                    _855 = _846;
                }
                if (_855)
                {
                    uint _861 = _1793 + (_1803 * THREADS);
                    uint _1251 = _861 >> uint(1);
                    uint _1252 = _1251 * 4u;
                    uint _1259 = (_753 + (_1251 * 8u)) + (_861 & 1u);
                    uint4 _1876;
                    if (_1252 < p.cols)
                    {
                        _1876 = _142.weights[_1259];
                    }
                    else
                    {
                        _1876 = uint4(0u);
                    }
                    uint4 _2028;
                    if ((_1252 + 1u) < p.cols)
                    {
                        _2028 = _142.weights[_1259 + 2u];
                    }
                    else
                    {
                        _2028 = uint4(0u);
                    }
                    uint4 _2046;
                    if ((_1252 + 2u) < p.cols)
                    {
                        _2046 = _142.weights[_1259 + 4u];
                    }
                    else
                    {
                        _2046 = uint4(0u);
                    }
                    uint4 _2064;
                    if ((_1252 + 3u) < p.cols)
                    {
                        _2064 = _142.weights[_1259 + 6u];
                    }
                    else
                    {
                        _2064 = uint4(0u);
                    }
                    uint4 _2591[4] = { _1876, _2028, _2046, _2064 };
                    spvArrayCopyFromStackToStack1(raw[_1803], _2591);
                }
            }
            for (uint _1804 = 0u; _1804 < 2u; _1804++)
            {
                uint _899 = _1793 + (_1804 * THREADS);
                if ((_1804 >= _904) || (_899 >= _1244))
                {
                    continue;
                }
                float4 _1303 = float4(as_type<float>(raw[_1804][0].x), as_type<float>(raw[_1804][1].x), as_type<float>(raw[_1804][2].x), as_type<float>(raw[_1804][3].x)) * 64.0;
                half2 _1308 = half2(_1303.xz);
                half2 _1315 = half2(_1303.yw);
                float4 _2138 = float4(as_type<float>(raw[_1804][0].y), as_type<float>(raw[_1804][1].y), as_type<float>(raw[_1804][2].y), as_type<float>(raw[_1804][3].y)) * 64.0;
                half2 _2141 = half2(_2138.xz);
                half2 _2146 = half2(_2138.yw);
                float4 _2157 = float4(as_type<float>(raw[_1804][0].z), as_type<float>(raw[_1804][1].z), as_type<float>(raw[_1804][2].z), as_type<float>(raw[_1804][3].z)) * 64.0;
                half2 _2160 = half2(_2157.xz);
                half2 _2165 = half2(_2157.yw);
                float4 _2176 = float4(as_type<float>(raw[_1804][0].w), as_type<float>(raw[_1804][1].w), as_type<float>(raw[_1804][2].w), as_type<float>(raw[_1804][3].w)) * 64.0;
                half2 _2179 = half2(_2176.xz);
                half2 _2184 = half2(_2176.yw);
                uint _1810;
                _1810 = 0u;
                uint _1905;
                for (uint _1809 = 0u; _1809 < TOKENS; _1810 = _1905, _1809 += 4u)
                {
                    if ((_1809 != 0u) && (_1809 >= _785))
                    {
                        _1905 = _1810;
                        continue;
                    }
                    uint _1851;
                    _1851 = _1810;
                    uint _1935;
                    for (uint _1829 = _1809; _1829 < (_1809 + 4u); _1851 = _1935, _1829++)
                    {
                        if (_1829 >= TOKENS)
                        {
                            _1935 = _1851;
                            continue;
                        }
                        uint _977 = x_at[_1829] + (_899 >> uint(1));
                        half2 _1381 = half2(_968.x[_977].xz);
                        half2 _1390 = half2(_968.x[_977].yw);
                        half2 _1409 = max(abs(_1381), abs(_1390));
                        half _1418 = max(_1409.x, _1409.y);
                        half2 _1440 = max(abs(_1308), abs(_1315));
                        half _1445 = max(_1440.x, _1440.y);
                        half2 _2203 = max(abs(_2141), abs(_2146));
                        half _2206 = max(_2203.x, _2203.y);
                        half2 _2228 = max(abs(_2160), abs(_2165));
                        half _2231 = max(_2228.x, _2228.y);
                        half2 _2253 = max(abs(_2179), abs(_2184));
                        half _2256 = max(_2253.x, _2253.y);
                        bool _2260 = (((((((((_1418 >= half(0.03125)) && (_1418 <= half(64.0))) && (_1445 >= half(0.03125))) && (_1445 <= half(256.0))) && (_2206 >= half(0.03125))) && (_2206 <= half(256.0))) && (_2231 >= half(0.03125))) && (_2231 <= half(256.0))) && (_2256 >= half(0.03125))) && (_2256 <= half(256.0));
                        half2 _1486 = fma(_1315, _1390, spvFMul(_1308, _1381));
                        half2 _2286 = fma(_2146, _1390, _2141 * _1381);
                        half2 _2322 = fma(_2165, _1390, _2160 * _1381);
                        half2 _2358 = fma(_2184, _1390, _2179 * _1381);
                        uint _1844;
                        if (_2260)
                        {
                            _1844 = 0u;
                        }
                        else
                        {
                            _1844 = 1u << _1829;
                        }
                        uint _1013 = _1829 * 4u;
                        float _1855;
                        if (_2260)
                        {
                            _1855 = spvFAdd(acc[_1013], spvFMul(spvFAdd(float(_1486.x), float(_1486.y)), 0.015625));
                        }
                        else
                        {
                            _1855 = acc[_1013];
                        }
                        acc[_1013] = _1855;
                        uint _2377 = _1013 + 1u;
                        float _2392;
                        if (_2260)
                        {
                            _2392 = fma(float(_2286.x) + float(_2286.y), 0.015625, acc[_2377]);
                        }
                        else
                        {
                            _2392 = acc[_2377];
                        }
                        acc[_2377] = _2392;
                        uint _2402 = _1013 + 2u;
                        float _2417;
                        if (_2260)
                        {
                            _2417 = fma(float(_2322.x) + float(_2322.y), 0.015625, acc[_2402]);
                        }
                        else
                        {
                            _2417 = acc[_2402];
                        }
                        acc[_2402] = _2417;
                        uint _2427 = _1013 + 3u;
                        float _2442;
                        if (_2260)
                        {
                            _2442 = fma(float(_2358.x) + float(_2358.y), 0.015625, acc[_2427]);
                        }
                        else
                        {
                            _2442 = acc[_2427];
                        }
                        acc[_2427] = _2442;
                        _1935 = _1851 | _1844;
                    }
                    _1905 = _1851;
                }
                uint _1051 = _1810 & ((1u << min(_785, TOKENS)) - 1u);
                if (_1051 != 0u)
                {
                    float4 _2655[4] = { float4(as_type<float>(raw[_1804][0].x), as_type<float>(raw[_1804][1].x), as_type<float>(raw[_1804][2].x), as_type<float>(raw[_1804][3].x)), float4(as_type<float>(raw[_1804][0].y), as_type<float>(raw[_1804][1].y), as_type<float>(raw[_1804][2].y), as_type<float>(raw[_1804][3].y)), float4(as_type<float>(raw[_1804][0].z), as_type<float>(raw[_1804][1].z), as_type<float>(raw[_1804][2].z), as_type<float>(raw[_1804][3].z)), float4(as_type<float>(raw[_1804][0].w), as_type<float>(raw[_1804][1].w), as_type<float>(raw[_1804][2].w), as_type<float>(raw[_1804][3].w)) };
                    for (uint _1815 = 0u; _1815 < TOKENS; _1815++)
                    {
                        uint _1074 = _1051 >> _1815;
                        if ((_1074 & 1u) == 0u)
                        {
                            continue;
                        }
                        uint _1104 = (x_at[_1815] + (_899 >> uint(1))) + uint(int(popcount((~_1074) & (_1074 - 1u))));
                        float4 param[4];
                        spvArrayCopyFromStackToStack1(param, _2655);
                        for (uint _1819 = 0u; _1819 < 4u; )
                        {
                            param_1[_1819] = fma(param[_1819].w, _968.x[_1104].w, fma(param[_1819].z, _968.x[_1104].z, fma(param[_1819].y, _968.x[_1104].y, spvFMul(param[_1819].x, _968.x[_1104].x))));
                            _1819++;
                            continue;
                        }
                        uint _1128 = _1815 * 4u;
                        acc[_1128] = spvFAdd(acc[_1128], param_1[0]);
                        uint _2515 = _1128 + 1u;
                        acc[_2515] += param_1[1];
                        uint _2532 = _1128 + 2u;
                        acc[_2532] += param_1[2];
                        uint _2549 = _1128 + 3u;
                        acc[_2549] += param_1[3];
                    }
                }
            }
        }
        float param_2[32];
        spvArrayCopyFromStackToStack1(param_2, acc);
        for (uint _1794 = 0u; _1794 < _518; )
        {
            partial[(_1794 * THREADS) + gl_LocalInvocationID.x] = param_2[_1794];
            _1794++;
            continue;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint _1795 = gl_LocalInvocationID.x; _1795 < _547; _1795 += THREADS)
        {
            uint _1697 = (((_1795 / 16u) * THREADS) + ((_1795 / 8u) % 2u)) + (2u * (_1795 % 8u));
            float _1802;
            _1802 = partial[_1697];
            for (uint _1800 = 16u; _1800 < THREADS; )
            {
                _1802 = spvFAdd(_1802, partial[_1697 + _1800]);
                _1800 += 16u;
                continue;
            }
            chunk_sums[_1795] = _1802;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (!_721)
        {
            break;
        }
        uint _1168 = gl_LocalInvocationID.x % 8u;
        uint _1738 = (((((gl_LocalInvocationID.x / 8u) * 4u) + (_1168 % 4u)) * 2u) + (_1168 / 4u)) * 8u;
        float _1173 = spvFMul((((((spvFAdd(chunk_sums[_1738], chunk_sums[_1738 + 1u]) + chunk_sums[_1738 + 2u]) + chunk_sums[_1738 + 3u]) + chunk_sums[_1738 + 4u]) + chunk_sums[_1738 + 5u]) + chunk_sums[_1738 + 6u]) + chunk_sums[_1738 + 7u], spvFMul(p.scale, 1.0));
        float _1798;
        if ((p.flags & 1u) != 0u)
        {
            _1798 = spvFAdd(_1173, _1183.bias0[(p.bias_at + (gl_WorkGroupID.y * p.rows)) + _686]);
        }
        else
        {
            _1798 = _1173;
        }
        float _1799;
        if ((p.flags & 4u) != 0u)
        {
            _1799 = spvFAdd(_1798, _1207.residual[((_691 * p.residual_stride) + _702) + _686]);
        }
        else
        {
            _1799 = _1798;
        }
        _734.y[_705] = (_691 < _1790) ? 0.0 : _1799;
        break;
    } while(false);
}

